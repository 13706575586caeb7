//! Sample data, many rows at a time: what `souk seed` and `souk serve --demo` store.
//!
//! Only the seeder calls this. It goes past the stock ledger, which it may: it never touches a row that is there, and
//! a new product comes with the movement that explains its level, in the same transaction. What is there already is
//! left as it is, so that everything here can be repeated. Transactions are as long as the caller's slices.

use std::collections::HashMap;

use crate::bulk::{Bulk, BulkConnection, Column, Kind, bulk};
use crate::catalogue::search_text;
use crate::db::{Db, StoreError, read_together, transaction};
use crate::model::{CategoryId, Money, ProductId, Timestamp, UserId, fold};

use Kind::{Int, Text, Time};

/// A category of the sample shop.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are those of the contract's category")]
pub struct SampleCategory {
    pub name: String,
    pub description: String,
    pub created_at: Timestamp,
}

/// A product of the sample shop, known by its SKU.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the contract's product")]
pub struct SampleProduct {
    pub name: String,
    pub description: String,
    pub price: Money,
    pub stock: i64,
    /// The category's name.
    pub category: String,
    pub sku: String,
    pub featured: bool,
    pub is_active: bool,
    pub created_at: Timestamp,
}

/// An account of the sample shop, known by its email.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are those of the contract's user")]
pub struct SampleUser {
    pub email: String,
    pub username: String,
    pub password_hash: String,
    pub first_name: String,
    pub last_name: String,
    pub phone: String,
    pub address: String,
    pub date_joined: Timestamp,
}

const INSERT_CATEGORIES: Bulk = bulk(
    "insert into categories (name, name_folded, description, created_at, updated_at) \
     select v.column1, v.column2, v.column3, v.column4, v.column4 from {rows} where true \
     on conflict (name_folded) do nothing",
    &[Text, Text, Text, Time],
);
/// They must not be deleted before the products that name them are stored.
const FIND_CATEGORIES: Bulk =
    bulk("select c.id, c.name_folded from {rows} join categories c on c.name_folded = v.column1", &[Text])
        .ending(" for share of c");
const INSERT_PRODUCTS: Bulk = bulk(
    "insert into products (name, name_folded, description, price, stock, category_id, sku, featured, is_active, \
     search_text, created_at, updated_at) \
     select v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8 = 1, \
     v.column9 = 1, v.column10, v.column11, v.column11 from {rows} where true \
     on conflict (sku) do nothing returning id, stock, created_at",
    &[Text, Text, Text, Int, Int, Int, Text, Int, Int, Text, Time],
);
const INSERT_MOVEMENTS: Bulk = bulk(
    "insert into stock_movements (product_id, kind, change, level, created_at) \
     select v.column1, 'initial', v.column2, v.column2, v.column3 from {rows}",
    &[Int, Int, Time],
);
const FIND_USERS: Bulk =
    bulk("select u.email_folded, u.id from {rows} join users u on u.email_folded = v.column1", &[Text]);
/// A username that somebody else has leaves the account out.
const INSERT_USERS: Bulk = bulk(
    "insert into users (email, email_folded, username, username_folded, password_hash, first_name, last_name, \
     phone, address, date_joined) \
     select v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8, v.column9, \
     v.column10 from {rows} where true on conflict do nothing",
    &[Text, Text, Text, Text, Text, Text, Text, Text, Text, Time],
);

/// Every statement of this file, for the test that prepares them.
#[cfg(test)]
pub(crate) const BULKS: &[&Bulk] =
    &[&INSERT_CATEGORIES, &FIND_CATEGORIES, &INSERT_PRODUCTS, &INSERT_MOVEMENTS, &FIND_USERS, &INSERT_USERS];

/// Stores those categories whose names are free; gives how many that were.
///
/// # Errors
/// Any [`StoreError`]; nothing was stored then.
pub async fn add_categories(db: &Db, categories: &[SampleCategory]) -> Result<u64, StoreError> {
    let columns = [
        Column::texts(categories.iter().map(|category| category.name.as_str())),
        Column::texts(categories.iter().map(|category| fold(&category.name))),
        Column::texts(categories.iter().map(|category| category.description.as_str())),
        Column::Time(categories.iter().map(|category| category.created_at).collect()),
    ];
    transaction!(db, tx => { Ok(tx.run_rows(&INSERT_CATEGORIES, &columns).await?) })
}

/// Stores those products whose SKUs are free, in one transaction; gives how many that were. A product whose category
/// is not there is left out.
///
/// # Errors
/// Any [`StoreError`]; nothing was stored then.
pub async fn add_products(db: &Db, products: &[SampleProduct]) -> Result<u64, StoreError> {
    transaction!(db, tx => { Ok(insert_products(tx, products).await?) })
}

async fn insert_products<C: BulkConnection>(
    tx: &mut C,
    products: &[SampleProduct],
) -> Result<u64, sqlx::Error> {
    let mut names: Vec<_> = products.iter().map(|product| fold(&product.category)).collect();
    names.sort_unstable();
    names.dedup();
    let categories: HashMap<String, CategoryId> = tx
        .fetch_rows::<(CategoryId, String)>(&FIND_CATEGORIES, &[Column::texts(names)])
        .await?
        .into_iter()
        .map(|(id, folded)| (folded, id))
        .collect();
    let placed: Vec<_> = products
        .iter()
        .filter_map(|product| categories.get(&fold(&product.category)).map(|category| (product, category)))
        .collect();
    let columns = [
        Column::texts(placed.iter().map(|(product, _)| product.name.as_str())),
        Column::texts(placed.iter().map(|(product, _)| fold(&product.name))),
        Column::texts(placed.iter().map(|(product, _)| product.description.as_str())),
        Column::ints(placed.iter().map(|(product, _)| product.price.0)),
        Column::ints(placed.iter().map(|(product, _)| product.stock)),
        Column::ints(placed.iter().map(|(_, category)| category.0)),
        Column::texts(placed.iter().map(|(product, _)| product.sku.as_str())),
        Column::ints(placed.iter().map(|(product, _)| i64::from(product.featured))),
        Column::ints(placed.iter().map(|(product, _)| i64::from(product.is_active))),
        Column::texts(placed.iter().map(|(product, _)| search_text(&product.name, &product.description))),
        Column::Time(placed.iter().map(|(product, _)| product.created_at).collect()),
    ];
    let added = tx.fetch_rows::<(ProductId, i64, Timestamp)>(&INSERT_PRODUCTS, &columns).await?;
    // A level of zero needs no explanation: the sum of no movements.
    let stocked: Vec<_> = added.iter().filter(|(_, stock, _)| *stock > 0).collect();
    let columns = [
        Column::ints(stocked.iter().map(|(id, _, _)| id.0)),
        Column::ints(stocked.iter().map(|(_, stock, _)| *stock)),
        Column::Time(stocked.iter().map(|(_, _, at)| *at).collect()),
    ];
    tx.run_rows(&INSERT_MOVEMENTS, &columns).await?;
    Ok(added.len() as u64)
}

/// The accounts with these emails, in their order; none where there is no such account.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_users(db: &Db, emails: &[String]) -> Result<Vec<Option<UserId>>, StoreError> {
    let folded: Vec<_> = emails.iter().map(|email| fold(email)).collect();
    let columns = [Column::texts(folded.iter().map(String::as_str))];
    let found = read_together!(db, connection => {
        connection.fetch_rows::<(String, UserId)>(&FIND_USERS, &columns).await
    })?;
    let ids: HashMap<String, UserId> = found.into_iter().collect();
    Ok(folded.iter().map(|email| ids.get(email).copied()).collect())
}

/// Stores those accounts whose emails and usernames are free, in one transaction; gives how many that were.
///
/// # Errors
/// Any [`StoreError`]; nothing was stored then.
pub async fn add_users(db: &Db, users: &[SampleUser]) -> Result<u64, StoreError> {
    let texts = |field: fn(&SampleUser) -> &str| Column::texts(users.iter().map(field));
    let columns = [
        texts(|user| &user.email),
        Column::texts(users.iter().map(|user| fold(&user.email))),
        texts(|user| &user.username),
        Column::texts(users.iter().map(|user| fold(&user.username))),
        texts(|user| &user.password_hash),
        texts(|user| &user.first_name),
        texts(|user| &user.last_name),
        texts(|user| &user.phone),
        texts(|user| &user.address),
        Column::Time(users.iter().map(|user| user.date_joined).collect()),
    ];
    transaction!(db, tx => { Ok(tx.run_rows(&INSERT_USERS, &columns).await?) })
}

/// Has Postgres look at what there is now, so that it plans for it at once, and not when its own daemon has come by:
/// searches took half as long again until then. SQLite is told which index to walk.
///
/// # Errors
/// Any [`StoreError`]; nothing depends on it.
pub async fn analyze(db: &Db) -> Result<(), StoreError> {
    if let Db::Postgres(pool) = db {
        sqlx::query("analyze products, categories, users").execute(pool).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::read;
    use crate::testing::TestDb;

    fn category(name: &str) -> SampleCategory {
        SampleCategory { name: name.to_owned(), description: String::new(), created_at: Timestamp::now() }
    }

    fn product(number: i64, stock: i64) -> SampleProduct {
        SampleProduct {
            name: format!("Lamp {number}"),
            description: "Shines.".to_owned(),
            price: Money(1999),
            stock,
            category: "Lamps".to_owned(),
            sku: format!("L-{number}"),
            featured: number == 1,
            is_active: true,
            created_at: Timestamp::now(),
        }
    }

    async fn count(db: &Db, what: &'static str) -> i64 {
        let (count,): (i64,) = read!(db, pool => sqlx::query_as(what).fetch_one(pool).await).unwrap();
        count
    }

    #[tokio::test]
    async fn what_is_there_already_is_left_as_it_is() {
        let test = TestDb::create().await;
        assert_eq!(add_categories(&test.db, &[category("lamps"), category("Rugs")]).await.unwrap(), 2);
        assert_eq!(add_categories(&test.db, &[category("Lamps"), category("Pots")]).await.unwrap(), 1);
        assert_eq!(add_products(&test.db, &[product(1, 5), product(2, 0)]).await.unwrap(), 2);
        let changed = SampleProduct { stock: 9, ..product(1, 5) };
        assert_eq!(add_products(&test.db, &[changed, product(3, 7)]).await.unwrap(), 1);
        assert_eq!(count(&test.db, "select stock from products where sku = 'L-1'").await, 5);
        assert_eq!(count(&test.db, "select count(*) from stock_movements").await, 2);
        let found = "select count(*) from products where search_text like '%lamp 3%'";
        assert_eq!(count(&test.db, found).await, 1);
    }

    #[tokio::test]
    async fn postgres_knows_at_once_how_much_there_is() {
        let test = TestDb::create().await;
        add_categories(&test.db, &[category("Lamps")]).await.unwrap();
        let lamps: Vec<_> = (1..=300).map(|number| product(number, 5)).collect();
        add_products(&test.db, &lamps).await.unwrap();
        analyze(&test.db).await.unwrap();
        if let Db::Postgres(_) = test.db {
            let guess = "select reltuples::bigint from pg_class where oid = 'products'::regclass";
            assert_eq!(count(&test.db, guess).await, 300);
        }
    }

    #[tokio::test]
    async fn a_product_whose_category_is_gone_is_left_out() {
        let test = TestDb::create().await;
        assert_eq!(add_products(&test.db, &[product(1, 5)]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn accounts_are_found_by_their_email_in_any_case() {
        let test = TestDb::create().await;
        let user = |number: i64| SampleUser {
            email: format!("User{number}@example.com"),
            username: format!("user{number}"),
            password_hash: String::new(),
            first_name: String::new(),
            last_name: String::new(),
            phone: String::new(),
            address: String::new(),
            date_joined: Timestamp::now(),
        };
        assert_eq!(add_users(&test.db, &[user(1), user(2)]).await.unwrap(), 2);
        assert_eq!(add_users(&test.db, &[user(2), user(3)]).await.unwrap(), 1);
        let emails = ["user3@example.com", "nobody@example.com", "USER1@EXAMPLE.COM"].map(str::to_owned);
        let found = find_users(&test.db, &emails).await.unwrap();
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    }
}
