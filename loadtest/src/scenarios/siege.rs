//! A siege: thousands who dawdle, say nothing, guess passwords, send bombs and do not read, all at once. Whoever came to
//! shop is served, nobody else costs much, and afterwards nothing of them is left.
//!
//! The end-to-end suite has a smaller one (`tests/souk/siege.rs`), since a debug build cannot read fifty megabytes a second;
//! this is the whole of it, of an optimised build, and with figures.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::arrivals::{Plan, Spacing, at_their_times};
use crate::client::{Request, Site, enough_descriptors, get, post, put, with_json};
use crate::dawdlers::{be_silent, dawdle};
use crate::progress::Progress;
use crate::report::Report;
use crate::souk::megabytes;
use crate::stage::{Aim, Goods, Needs, Stage, expected};
use crate::tally::{Ending, Tally};
use crate::verdict::Limit;
use crate::wire::Wire;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// For how many seconds people come to shop, and guessers guess
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    seconds: f64,
    /// How many requests of theirs come a second
    #[arg(long, value_name = "N", default_value_t = 50.0)]
    rate: f64,
    /// How many connections send a byte a second, half of them in the head of a request and half in its body
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    dawdlers: usize,
    /// How many connections say nothing
    #[arg(long, value_name = "N", default_value_t = 3_000)]
    silent: usize,
    /// How many wrong logins come a second, each with a password of a megabyte
    #[arg(long, value_name = "N", default_value_t = 50.0)]
    guesses: f64,
    /// How many images of 20,000 by 20,000 pixels are sent
    #[arg(long, value_name = "N", default_value_t = 20)]
    bombs: usize,
    /// How many notification sockets ask and ask, and never read
    #[arg(long, value_name = "N", default_value_t = 5)]
    deaf: usize,
    #[command(flatten)]
    aim: Aim,
}

/// Of the requests of those who came to shop.
const SERVED: f64 = 0.999;
/// In MB.
const MEMORY: f64 = 400.0;
/// How long an attacker may last.
const GONE_WITHIN: Duration = Duration::from_secs(45);
/// How many files more than before may be open at the end: connections of the database's own, of the harness.
const MORE_FILES: usize = 30;
/// How many connect at the same moment, so that they all get in within a second or two.
const AT_THE_DOOR: usize = 64;
/// How often the server's state is looked at in the end.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The server takes nothing more from a socket that could not be written to for so long.
const STUCK: Duration = Duration::from_secs(3);

/// How long a password of a guess is, in bytes.
const LONG: usize = 1_000_000;
/// The edge of a bomb, in pixels; decoded it takes 50 MB at least, and 400 MB with a byte a pixel.
const EDGE: u32 = 20_000;

pub(crate) async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    options.aim.must_be_own("attacks the server, and counts its memory and its files")?;
    ensure!((1.0..600.0).contains(&options.seconds), "--seconds must be from 1 to 600");
    for rate in [options.rate, options.guesses] {
        ensure!((0.1..10_000.0).contains(&rate), "a rate must be from 0.1 to 10,000");
    }
    enough_descriptors(options.dawdlers + options.silent, "less with --dawdlers and --silent")?;
    let needs = Needs { shoppers: 1 + options.deaf, goods: Goods::Plenty(100), basket: None, admin: false };
    let stage = Stage::set(&options.aim, needs, report).await?;
    let files = stage.own()?.serving.open_files()?;

    let bomb = bomb()?;
    let deaf = stuff(&stage).await?;
    let attackers = besiege(options, &stage.site);
    let (guesses, bombs) = (Arc::new(Tally::new()), Arc::new(Tally::new()));
    let (served, (), ()) = tokio::join!(
        shop(options, &stage),
        guess(options, &stage, &guesses),
        send_bombs(options.bombs, &bomb, &stage, &bombs)
    );
    report.run("those who shop", &served);
    report.run("guesses", &guesses);
    report.run("bombs", &bombs);

    let longest = attackers.join_all().await.into_iter().max().unwrap_or_default();
    let are_deaf_gone = in_time(async || Ok(sockets_open(&stage).await? == 0)).await?;
    drop(deaf);
    let serving = &stage.own()?.serving;
    let are_files_closed = in_time(async || Ok(serving.open_files()? <= files + MORE_FILES)).await?;
    let (files_left, memory) = (serving.open_files()?, serving.memory()?);

    report.say(&format!(
        "{} dawdlers, {} silent, {} deaf; the last of them was gone after {:.0} s; memory at most {}, {} open files before \
         and {files_left} after",
        options.dawdlers,
        options.silent,
        options.deaf,
        longest.as_secs_f64(),
        megabytes(memory.peak),
        files,
    ));
    report.limit("requests of those who shop that were served", served.served(), "", Limit::AtLeast(SERVED));
    report.limit("memory", memory.peak as f64 / 1e6, " MB", Limit::AtMost(MEMORY));
    report.limit(
        "the longest stay of an attacker",
        longest.as_secs_f64(),
        " s",
        Limit::AtMost(GONE_WITHIN.as_secs_f64()),
    );
    report.claim("those who do not read are let go", are_deaf_gone);
    report.claim("as many files are open as before", are_files_closed);
    stage.close(&[], report).await
}

/// Those who take up connections; each tells how long the server let it stay, if at all.
fn besiege(options: &Options, site: &Site) -> JoinSet<Duration> {
    let (door, mut attackers) = (Arc::new(Semaphore::new(AT_THE_DOOR)), JoinSet::new());
    for number in 0..options.dawdlers + options.silent {
        let (address, door, dawdles) = (site.address, door.clone(), number < options.dawdlers);
        attackers.spawn(async move {
            let turn = door.acquire().await;
            let (came, connecting) = (Instant::now(), timeout(GONE_WITHIN, TcpStream::connect(address)));
            let Ok(Ok(stream)) = connecting.await else { return Duration::ZERO };
            drop(turn);
            if dawdles {
                dawdle(stream, number.is_multiple_of(2)).await;
            } else {
                be_silent(stream).await;
            }
            came.elapsed()
        });
    }
    attackers
}

/// Sockets whose clients ask until nothing more is taken from them, and read none of the answers.
async fn stuff(stage: &Stage) -> anyhow::Result<Vec<Wire>> {
    let users = stage.users().await?;
    let mut stuffing = JoinSet::new();
    // The first shopper comes to shop.
    for (user, token) in users.into_iter().zip(stage.shoppers.clone()).skip(1) {
        let site = stage.site.clone();
        stuffing.spawn(async move {
            let narrow = TcpSocket::new_v4()?;
            narrow.set_recv_buffer_size(4_096)?;
            let stream = narrow.connect(site.address).await?;
            let mut wire = Wire::over(stream, &site, user, &token, None).await?;
            wire.stuff(STUCK).await;
            anyhow::Ok(wire)
        });
    }
    stuffing.join_all().await.into_iter().collect()
}

/// Somebody's day in the shop, by the clock.
async fn shop(options: &Options, stage: &Stage) -> Arc<Tally> {
    let (pool, tally) = (stage.pool(32), Arc::new(Tally::new()));
    let (token, products) = (stage.shoppers[0].clone(), Arc::new(stage.products.clone()));
    let _progress = Progress::of("siege", options.seconds, &tally);
    at_their_times(Plan::lasting(options.rate, Spacing::Even, options.seconds), |arrival| {
        let (pool, tally, token, products) = (pool.clone(), tally.clone(), token.clone(), products.clone());
        async move {
            let product = products[arrival.number % products.len()];
            let (kind, request, good) = match arrival.number % 10 {
                0 => ("cart", get("/api/cart/", Some(&token)), 200),
                1 => ("profile", get("/auth/api/profile/", Some(&token)), 200),
                2 => ("put", put(&token, product, 1), 201),
                3..7 => ("detail", get(&format!("/api/products/{product}/"), None), 200),
                _ => ("list", get("/api/products/?in_stock=true", None), 200),
            };
            tally.count(kind, arrival.planned, Ending::of_asking(&pool, request, &[good]).await);
        }
    })
    .await;
    tally
}

/// Wrong logins of many accounts.
async fn guess(options: &Options, stage: &Stage, tally: &Arc<Tally>) {
    let (pool, password) = (stage.pool(64), Arc::new("p".repeat(LONG)));
    at_their_times(Plan::lasting(options.guesses, Spacing::Even, options.seconds), |arrival| {
        let (pool, tally, password) = (pool.clone(), tally.clone(), password.clone());
        async move {
            let email = format!("nobody{}@example.com", arrival.number);
            let login = format!(r#"{{"email": "{email}", "password": "{password}"}}"#);
            let login = post("/auth/api/token/", None, login.into());
            let ending = Ending::of_asking(&pool, login, &[401, 429]).await;
            tally.count("guess", arrival.planned, ending);
        }
    })
    .await;
}

/// Images that are far larger than they look, all at once, as the avatar of somebody who may.
async fn send_bombs(bombs: usize, bomb: &[u8], stage: &Stage, tally: &Arc<Tally>) {
    let (pool, token, mut sending) = (stage.pool(bombs.max(1)), &stage.shoppers[0], JoinSet::new());
    for _ in 0..bombs {
        let (request, pool, tally) = (avatar(token, bomb), pool.clone(), tally.clone());
        sending.spawn(async move {
            let sent = Instant::now();
            tally.count("bomb", sent, Ending::of_asking(&pool, request, &[400]).await);
        });
    }
    sending.join_all().await;
}

/// A form with this file in it.
fn avatar(token: &HeaderValue, file: &[u8]) -> anyhow::Result<Request> {
    let head = "--siege\r\ncontent-disposition: form-data; name=\"avatar\"; filename=\"a.png\"\r\n\r\n";
    let body = [head.as_bytes(), file, b"\r\n--siege--\r\n"].concat();
    let mut request = with_json(Method::PATCH, "/auth/api/profile/", Some(token), body.into())?;
    let form = HeaderValue::from_static("multipart/form-data; boundary=siege");
    request.headers_mut().insert(CONTENT_TYPE, form);
    Ok(request)
}

/// A PNG of nothing, far larger than its file.
fn bomb() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, EDGE, EDGE);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header()?;
    let mut pixels = writer.stream_writer()?;
    let row = vec![0; usize::try_from(EDGE.div_ceil(8))?];
    for _ in 0..EDGE {
        pixels.write_all(&row)?;
    }
    pixels.finish()?;
    writer.finish()?;
    Ok(bytes)
}

/// Whether this comes true before an attacker would have stayed for too long.
async fn in_time(is_so: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    let began = Instant::now();
    while !is_so().await? {
        if began.elapsed() >= GONE_WITHIN {
            return Ok(false);
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(true)
}

/// How many notification sockets the server has.
async fn sockets_open(stage: &Stage) -> anyhow::Result<u64> {
    let page = expected(stage.pool(1).send(get("/metrics", None)?).await?, 200)?;
    let page = String::from_utf8_lossy(&page.body).into_owned();
    let line = page.lines().find_map(|line| line.strip_prefix("souk_sockets "));
    line.context("/metrics does not tell of sockets")?.parse().context("no number of sockets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_much_larger_than_its_file() {
        let bomb = bomb().unwrap();
        assert!(bomb.len() < 1_000_000, "{}", bomb.len());
        let reader = png::Decoder::new(std::io::Cursor::new(bomb)).read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), (EDGE, EDGE));
    }
}
