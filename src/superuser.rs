//! `souk createsuperuser`: makes an admin, by questions on a terminal or, with `--noinput`, without any.
//!
//! The rules for email, username and password are those of registering; a refusal names the field. Nothing is stored
//! unless all of it is good.

use std::io::{IsTerminal, Write};

use anyhow::{Context, bail};
use souk::config::Environment;
use souk_http::accounts::objections;
use souk_http::passwords;
use souk_store::Db;
use souk_store::accounts::{self, NewAccount, Taken};

/// Where `--noinput` finds the password.
const PASSWORD_VARIABLE: &str = "SOUK_SUPERUSER_PASSWORD";

/// Who shall be an admin.
#[derive(clap::Args)]
pub(crate) struct Wish {
    /// The admin's email address, for logging in; asked for if left out.
    #[arg(long, required_if_eq("noinput", "true"))]
    email: Option<String>,
    /// The admin's username; asked for if left out.
    #[arg(long, required_if_eq("noinput", "true"))]
    username: Option<String>,
    #[arg(long, help = "Ask nothing; the password comes from SOUK_SUPERUSER_PASSWORD")]
    noinput: bool,
}

/// What an account is made from.
pub(crate) struct Answers {
    pub(crate) email: String,
    pub(crate) username: String,
    pub(crate) password: String,
}

/// Makes the admin of `wish`; gives the email.
pub(crate) async fn run(db: &Db, wish: &Wish, environment: &Environment) -> anyhow::Result<String> {
    let answers = if wish.noinput {
        let Some(password) = environment.get(PASSWORD_VARIABLE) else {
            bail!("--noinput takes the password from {PASSWORD_VARIABLE}, which is not set");
        };
        Answers {
            email: wish.email.clone().unwrap_or_default().trim().to_owned(),
            username: wish.username.clone().unwrap_or_default().trim().to_owned(),
            password: password.to_owned(),
        }
    } else {
        if !std::io::stdin().is_terminal() {
            bail!(
                "there is no terminal to ask on; give --noinput, --email, --username and {PASSWORD_VARIABLE}"
            );
        }
        ask(db, wish).await?
    };
    create(db, &answers).await?;
    Ok(answers.email)
}

/// Stores an admin, if everything about him is good.
pub(crate) async fn create(db: &Db, answers: &Answers) -> anyhow::Result<()> {
    let Answers { email, username, password } = answers;
    let mut refused = objections(email, username, password);
    refused.extend(taken(accounts::taken(db, email, username, None).await?));
    if refused.is_empty() {
        let new = NewAccount {
            email: email.clone(),
            username: username.clone(),
            password_hash: passwords::hash(password),
            is_admin: true,
            ..NewAccount::default()
        };
        match accounts::create(db, &new).await? {
            Ok(_) => return Ok(()),
            Err(names) => refused.extend(taken(names)),
        }
    }
    let refused: Vec<_> = refused.iter().map(|(field, why)| format!("{field}: {why}")).collect();
    bail!("no admin was made: {}", refused.join(" "));
}

fn taken(names: Taken) -> Vec<(&'static str, String)> {
    let both = [("email", names.email), ("username", names.username)];
    let taken = both.into_iter().filter(|(_, is_taken)| *is_taken);
    taken.map(|(field, _)| (field, format!("A user with this {field} already exists."))).collect()
}

/// Asks for what was not given, each until it is good.
async fn ask(db: &Db, wish: &Wish) -> anyhow::Result<Answers> {
    let mut answers = Answers { email: String::new(), username: String::new(), password: String::new() };
    answers.email = match &wish.email {
        Some(email) => email.trim().to_owned(),
        None => loop {
            let email = line("Email: ")?;
            let mut refused = of_field("email", objections(&email, "", ""));
            refused.extend(of_field("email", taken(accounts::taken(db, &email, "", None).await?)));
            if tell(&refused)? {
                break email;
            }
        },
    };
    answers.username = match &wish.username {
        Some(username) => username.trim().to_owned(),
        None => loop {
            let username = line("Username: ")?;
            let mut refused = of_field("username", objections("", &username, ""));
            refused.extend(of_field("username", taken(accounts::taken(db, "", &username, None).await?)));
            if tell(&refused)? {
                break username;
            }
        },
    };
    answers.password = loop {
        let password = rpassword::prompt_password("Password: ").context("cannot read the password")?;
        let refused = of_field("password", objections(&answers.email, &answers.username, &password));
        if !tell(&refused)? {
            continue;
        }
        let again = rpassword::prompt_password("Password (again): ").context("cannot read the password")?;
        if again == password {
            break password;
        }
        tell(&["The two passwords are not the same.".to_owned()])?;
    };
    Ok(answers)
}

fn of_field(field: &str, refused: Vec<(&'static str, String)>) -> Vec<String> {
    refused.into_iter().filter(|(of, _)| *of == field).map(|(_, why)| why).collect()
}

/// Shows what is wrong; whether nothing is.
fn tell(refused: &[String]) -> anyhow::Result<bool> {
    for why in refused {
        writeln!(std::io::stderr(), "{why}")?;
    }
    Ok(refused.is_empty())
}

fn line(question: &str) -> anyhow::Result<String> {
    let mut terminal = std::io::stderr();
    write!(terminal, "{question}")?;
    terminal.flush()?;
    let mut answer = String::new();
    if std::io::stdin().read_line(&mut answer).context("cannot read the answer")? == 0 {
        bail!("no admin was made");
    }
    Ok(answer.trim().to_owned())
}
