//! `souk serve --demo`: an empty shop gets goods, shoppers and an admin before it opens.
//!
//! Empty means: nobody is an admin yet, so nobody can have worked here. The admin is made last; a demo that is
//! interrupted before goes on at the next start.

use std::io::Write;

use rand::seq::IndexedRandom;
use souk::config::{BadSetting, Config};
use souk_store::accounts::{self, UserFilter};

use crate::seed::{self, Added};
use crate::superuser::{self, Answers};

const PRODUCTS: u64 = 1000;
const SHOPPERS: u64 = 10;
const EMAIL: &str = "admin@example.com";

/// Letters and digits that nobody takes for another one.
const SIGNS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";

pub(crate) async fn furnish(config: &Config) -> anyhow::Result<()> {
    if config.sqlite_file().is_none() {
        let reason = "--demo is for the embedded database; leave DATABASE_URL and DB_NAME out".to_owned();
        return Err(BadSetting { setting: "DATABASE_URL".to_owned(), reason }.into());
    }
    let db = crate::open(config).await?;
    let admins = UserFilter { is_admin: Some(true), ..UserFilter::default() };
    if accounts::list(&db, &admins, 1, 0).await?.1 == 0 {
        let added = seed::fill(&db, PRODUCTS, SHOPPERS).await?;
        let password = made_up_password();
        let answers = Answers { email: EMAIL.to_owned(), username: "admin".to_owned(), password };
        superuser::create(&db, &answers).await?;
        // To the person who started it and to no log: this is the only time that the password is seen.
        std::io::stdout().write_all(welcome(&added, &answers.password).as_bytes())?;
    }
    db.close().await;
    Ok(())
}

/// Four groups of four: about 79 bits.
fn made_up_password() -> String {
    let mut random = rand::rng();
    let mut group = || -> String {
        let signs = (0..4).filter_map(|_| SIGNS.choose(&mut random));
        signs.map(|sign| char::from(*sign)).collect()
    };
    [group(), group(), group(), group()].join("-")
}

fn welcome(added: &Added, password: &str) -> String {
    let Added { products, categories, .. } = added;
    format!(
        "\nThis shop is new. It was given {products} products in {categories} categories, and an admin:\n\n  \
         Email     {EMAIL}\n  Password  {password}   (not shown again)\n\n\
         Shoppers are user1@example.com, who signs in with souk-demo-1, to user{SHOPPERS}@example.com.\n\n"
    )
}
