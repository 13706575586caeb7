//! `souk seed`: sample categories, products and users, the same for the same numbers, safe to repeat.
//!
//! What is there already is left as it is, so a second run adds nothing and a larger number adds the rest. It may run
//! beside a live server: its transactions are short, with a breath between them in which the server's own writes get
//! their turn. If it fails half-way, what was stored is whole, and the next run goes on.

mod goods;
mod words;

use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use souk::config::Config;
use souk_http::passwords;
use souk_http::tokens::Tokens;
use souk_store::model::{Timestamp, UserId};
use souk_store::sample::{self, SampleUser};
use souk_store::{Db, StoreError, chain, identity};
use tokio::time::Instant;

/// How many products one transaction stores: some hundredths of a second.
const SLICE: u64 = 500;
/// How many users one transaction stores.
const USERS_SLICE: u64 = 64;
/// After this much work others get a turn. Who waits for SQLite's lock looks for it every 100 ms and gives up after two
/// seconds, so a shorter rest, or a later one, could be missed.
const WORK: Duration = Duration::from_millis(400);
const REST: Duration = Duration::from_millis(110);
/// How often a slice is tried again while the database is busy with others.
const ATTEMPTS: u32 = 10;

/// What to seed.
#[derive(clap::Args)]
pub(crate) struct Wish {
    /// How many products there shall be.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    products: u64,
    /// How many users there shall be: user1@example.com with password souk-demo-1, and so on.
    #[arg(long, default_value_t = 10, value_name = "N")]
    users: u64,
    /// Write an access token of each of these users into FILE, one a line, for load harnesses.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
}

/// What was stored now; the rest was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) categories: u64,
    pub(crate) products: u64,
    pub(crate) users: u64,
}

pub(crate) async fn run(config: &Config, wish: &Wish) -> anyhow::Result<ExitCode> {
    // Before the work, so that a key that is missing is told at once.
    let tokens = match &wish.tokens {
        Some(file) => Some((file, config.tokens()?)),
        None => None,
    };
    let db = crate::open(config).await?;
    let started = Instant::now();
    let added = fill(&db, wish.products, wish.users).await?;
    if let Some((file, tokens)) = tokens {
        write_tokens(&db, &tokens, wish.users, file).await?;
    }
    identity::announce(&db).await?;
    db.close().await;
    let Added { categories, products, users } = added;
    let seconds = started.elapsed().as_secs_f64();
    let line = format!(
        "Added {products} products, {categories} categories and {users} users in {seconds:.1} s; \
         the rest of what was asked for was there.\n"
    );
    std::io::stdout().write_all(line.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Sees to it that the first `products` products and `users` users of the sample shop are there.
pub(crate) async fn fill(db: &Db, products: u64, users: u64) -> anyhow::Result<Added> {
    let categories = sample::add_categories(db, &goods::categories()).await?;
    let products = add_products(db, products).await?;
    let users = add_users(db, users).await?;
    if categories + products + users > 0
        && let Err(error) = sample::analyze(db).await
    {
        tracing::warn!(
            error = chain(&error),
            "the database does not know yet how much there is: searches may be slow"
        );
    }
    Ok(Added { categories, products, users })
}

async fn add_products(db: &Db, total: u64) -> anyhow::Result<u64> {
    let mut progress = Progress::start("products", total);
    let mut added = 0;
    let mut rested = Instant::now();
    for first in (1..=total).step_by(usize::try_from(SLICE)?) {
        let last = total.min(first + SLICE - 1);
        let slice: Vec<_> = (first..=last).map(goods::product).collect();
        added += patiently(|| sample::add_products(db, &slice)).await?;
        progress.advance(last - first + 1);
        if rested.elapsed() > WORK {
            tokio::time::sleep(REST).await;
            rested = Instant::now();
        }
    }
    progress.finish();
    Ok(added)
}

async fn add_users(db: &Db, total: u64) -> anyhow::Result<u64> {
    let mut progress = Progress::start("users", total);
    let mut added = 0;
    for first in (1..=total).step_by(usize::try_from(USERS_SLICE)?) {
        let numbers: Vec<_> = (first..=total.min(first + USERS_SLICE - 1)).collect();
        let emails: Vec<_> = numbers.iter().map(|number| goods::email(*number)).collect();
        let there = patiently(|| sample::find_users(db, &emails)).await?;
        let missing = numbers.iter().zip(&there).filter(|(_, id)| id.is_none()).map(|(number, _)| *number);
        let users = with_hashes(missing.collect()).await?;
        if !users.is_empty() {
            added += patiently(|| sample::add_users(db, &users)).await?;
        }
        progress.advance(numbers.len() as u64);
    }
    progress.finish();
    Ok(added)
}

/// Hashes the passwords on every core.
async fn with_hashes(numbers: Vec<u64>) -> anyhow::Result<Vec<SampleUser>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let tasks: Vec<_> = numbers
        .chunks(numbers.len().div_ceil(cores).max(1))
        .map(<[u64]>::to_vec)
        .map(|share| {
            tokio::task::spawn_blocking(move || {
                let user = |number| goods::user(number, passwords::hash(&goods::password(number)));
                share.into_iter().map(user).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut users = Vec::with_capacity(numbers.len());
    for task in tasks {
        users.append(&mut task.await.context("hashing the passwords failed")?);
    }
    Ok(users)
}

/// Tries again while others keep the database busy.
async fn patiently<T>(mut work: impl AsyncFnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let mut attempt = 1;
    loop {
        match work().await {
            Err(StoreError::Unavailable(_)) if attempt < ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Writes an access token a line, of user 1 and so on, into a file that its owner alone can read. That of a user whose
/// password an admin has set since is void.
pub(crate) async fn write_tokens(db: &Db, tokens: &Tokens, users: u64, file: &Path) -> anyhow::Result<()> {
    let emails: Vec<_> = (1..=users).map(goods::email).collect();
    let ids: Vec<UserId> = sample::find_users(db, &emails).await?.into_iter().flatten().collect();
    let now = Timestamp::now();
    let text: String = ids.iter().map(|id| tokens.access(*id, 0, now) + "\n").collect();
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(file)?;
        file.write_all(text.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

/// A bar on a terminal, a line for each tenth elsewhere.
struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn start(what: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg:9} {wide_bar} {pos}/{len} {per_sec:>12} {eta:>4}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style).with_message(what)
        });
        Self { what, total, done: 0, bar }
    }

    fn advance(&mut self, by: u64) {
        let tenths = |done: u64| done * 10 / self.total.max(1);
        let (before, after) = (tenths(self.done), tenths(self.done + by));
        self.done += by;
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if after > before => {
                drop(writeln!(std::io::stderr(), "{}: {} of {}", self.what, self.done, self.total));
            }
            None => {}
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish();
        }
    }
}
