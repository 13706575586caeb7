//! Where a scenario plays: a shop of the run's own with the real server on it, or a running Souk somewhere.
//!
//! A stage of its own is made past the API, in seconds, and its books are looked into afterwards. Of somebody else's Souk
//! a run has but tokens: it fills carts as anybody would, and judges by what the API tells.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use souk_store::model::{OrderId, UserId};
use tokio::task::JoinSet;

use crate::buyer::Placed;
use crate::client::{Answer, Pool, Site, get, post, put, with_json};
use crate::cores::Halves;
use crate::measure::machine;
use crate::private::Redis;
use crate::report::Report;
use crate::server::sign;
use crate::shop::{Basket, PLENTY, Place, Shop};
use crate::souk::{Serving, Souk};
use crate::verdict::Fault;

/// Where to play.
#[derive(Debug, clap::Args)]
pub(crate) struct Aim {
    /// A running Souk, as in `http://HOST:PORT`, instead of one of the run's own
    #[arg(long, conflicts_with_all = ["postgres", "redis", "setting", "threads"])]
    url: Option<String>,
    /// With --url: access tokens of shoppers, one a line, as `souk seed --users N --tokens FILE` writes them
    #[arg(long, value_name = "FILE", requires = "url")]
    tokens: Option<PathBuf>,
    /// With --url: the access token of an admin, for scenarios that need one
    #[arg(long, value_name = "TOKEN", env = "SOUK_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
    /// With Redis: one of the run's own, or that of a URL; --postgres without a URL brings one, too
    #[arg(long, value_name = "URL", num_args = 0..=1)]
    redis: Option<Option<String>>,
    /// On how many threads the run's own server serves; otherwise on as many as there are cores
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// A further setting of the run's own server; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    setting: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Aim {
    /// # Errors
    /// If the run is to play on a Souk that is not its own.
    pub(crate) fn must_be_own(&self, why: &str) -> anyhow::Result<()> {
        ensure!(self.url.is_none(), "this scenario {why}: it needs a server of its own, so leave out --url");
        Ok(())
    }

    fn describe(&self) -> String {
        let Some(url) = &self.url else {
            let redis = if self.with_redis() { ", Redis" } else { "" };
            let threads =
                self.threads.map_or_else(String::new, |threads| format!(", {threads} server threads"));
            return format!("{}{redis}{threads}, {}", self.place.engine(), machine(&self.place.dir));
        };
        format!("{url}, from a machine with {}", machine(Path::new(".")))
    }

    fn with_redis(&self) -> bool {
        self.redis.is_some() || matches!(self.place.postgres, Some(None))
    }
}

/// What a scenario wants to find.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// How many shoppers.
    pub(crate) shoppers: usize,
    pub(crate) goods: Goods,
    /// What each of them has in the cart already.
    pub(crate) basket: Option<Basket>,
    /// Whether somebody must be able to change products.
    pub(crate) admin: bool,
}

/// What is on the shelves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goods {
    /// This many products, of which there are plenty.
    Plenty(usize),
    /// One new product with exactly this many units.
    Units(i64),
    /// The sample shop, with this many products.
    Sample(usize),
}

/// A set stage.
pub(crate) struct Stage {
    pub(crate) site: Site,
    /// Ready for the `Authorization` header.
    pub(crate) shoppers: Vec<HeaderValue>,
    pub(crate) products: Vec<i64>,
    admin: Option<HeaderValue>,
    own: Option<Own>,
}

/// What belongs to a stage of the run's own.
pub(crate) struct Own {
    pub(crate) shop: Shop,
    pub(crate) souk: Souk,
    pub(crate) serving: Serving,
    _redis: Option<Redis>,
}

impl Stage {
    /// Sets it.
    pub(crate) async fn set(aim: &Aim, needs: Needs, report: &mut Report) -> anyhow::Result<Self> {
        report.set_in(aim.describe());
        match &aim.url {
            Some(url) => Self::of_others(aim, url, needs).await,
            None => Self::of_its_own(aim, needs).await,
        }
    }

    /// The same, but with the servers of the run on one half of the cores, and the load, from then on, on the other.
    pub(crate) async fn set_apart(aim: &Aim, needs: Needs, report: &mut Report) -> anyhow::Result<Self> {
        if aim.url.is_some() {
            return Self::set(aim, needs, report).await;
        }
        let halves = Halves::find()?;
        report.set_in(format!("{}, Souk and the load on cores of their own", aim.describe()));
        halves.go_to_servers().await?;
        let stage = Self::of_its_own(aim, needs).await?;
        halves.go_to_load().await?;
        Ok(stage)
    }

    async fn of_its_own(aim: &Aim, needs: Needs) -> anyhow::Result<Self> {
        let (products, stock) = match needs.goods {
            Goods::Plenty(products) => (products, PLENTY),
            Goods::Units(units) => (1, units),
            Goods::Sample(_) => (0, 0),
        };
        let shop = Shop::open_with(&aim.place, needs.shoppers, products, stock).await?;
        let (redis_url, redis) = match &aim.redis {
            Some(Some(url)) => (Some(url.clone()), None),
            _ if aim.with_redis() => {
                let own = Redis::start(&aim.place).await?;
                (Some(own.url.clone()), Some(own))
            }
            _ => (None, None),
        };
        let mut settings = Vec::new();
        settings.extend(redis_url.map(|url| ("REDIS_URL".to_owned(), url)));
        settings.extend(aim.threads.map(|threads| ("TOKIO_WORKER_THREADS".to_owned(), threads.to_string())));
        settings.extend(aim.setting.iter().cloned());
        let souk = Souk::find(&aim.place, &shop.url, settings).await?;
        if let Goods::Sample(products) = needs.goods {
            souk.run(&["seed", "--products", &products.to_string(), "--users", "0"]).await?;
        }
        if let Some(basket) = needs.basket {
            shop.fill_carts(needs.shoppers, basket).await?;
        }
        let admin = if needs.admin { sign(&[shop.admin().await?])?.pop() } else { None };
        let serving = souk.serve(0).await?;
        let mut stage = Self {
            site: serving.site.clone(),
            shoppers: sign(&shop.users)?,
            products: shop.products.iter().map(|product| product.0).collect(),
            admin,
            own: Some(Own { shop, souk, serving, _redis: redis }),
        };
        if let Goods::Sample(_) = needs.goods {
            stage.products = in_stock(&stage.pool(1)).await?;
        }
        Ok(stage)
    }

    async fn of_others(aim: &Aim, url: &str, needs: Needs) -> anyhow::Result<Self> {
        let site = Site::of_url(url).await?;
        let shoppers = match &aim.tokens {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                bearers(text.with_context(|| format!("cannot read {}", file.display()))?.lines())?
            }
            None => Vec::new(),
        };
        ensure!(
            shoppers.len() >= needs.shoppers,
            "this run needs {} shoppers, and has {}: `souk seed --users {} --tokens FILE` makes them, and --tokens FILE \
             tells of them; or ask for less (see --help)",
            needs.shoppers,
            shoppers.len(),
            needs.shoppers,
        );
        let shoppers: Vec<_> = shoppers.into_iter().take(needs.shoppers).collect();
        let admin = bearers(aim.admin_token.as_deref().into_iter())?.pop();
        ensure!(
            admin.is_some() || !(needs.admin || matches!(needs.goods, Goods::Units(_))),
            "this scenario changes products: give it an admin's access token in SOUK_ADMIN_TOKEN"
        );
        let mut stage = Self { site, shoppers, products: Vec::new(), admin, own: None };
        let pool = stage.pool(32);
        stage.products = match needs.goods {
            Goods::Units(units) => vec![stage.new_product(&pool, units).await?],
            Goods::Plenty(_) | Goods::Sample(_) => {
                let products = in_stock(&pool).await?;
                ensure!(products.len() >= 10, "{url} has too few products in stock: `souk seed` brings some");
                products
            }
        };
        if let Some(basket) = needs.basket {
            stage.fill_carts(&pool, basket).await?;
        }
        Ok(stage)
    }

    /// Connections to the server.
    pub(crate) fn pool(&self, most: usize) -> Arc<Pool> {
        Pool::new(&self.site, most)
    }

    /// # Errors
    /// If the scenario did not ask for one.
    pub(crate) fn admin(&self) -> anyhow::Result<&HeaderValue> {
        self.admin.as_ref().context("there is no admin on this stage")
    }

    /// What is the run's own.
    ///
    /// # Errors
    /// If the server is somebody else's.
    pub(crate) fn own(&self) -> anyhow::Result<&Own> {
        self.own.as_ref().context("the server is not this run's own")
    }

    /// The ids of the shoppers' accounts, in their order.
    pub(crate) async fn users(&self) -> anyhow::Result<Vec<UserId>> {
        if let Some(own) = &self.own {
            return Ok(own.shop.users.clone());
        }
        let (pool, mut users) = (self.pool(1), Vec::new());
        for token in &self.shoppers {
            let profile = pool.send(get("/auth/api/profile/", Some(token))?).await?;
            users.push(UserId(expected(profile, 200)?.json::<Placed>()?.id));
        }
        Ok(users)
    }

    /// A product's level, as the shop shows it.
    pub(crate) async fn stock(&self, product: i64) -> anyhow::Result<i64> {
        #[derive(Deserialize)]
        struct Product {
            stock: i64,
        }
        let answer = self.pool(1).send(get(&format!("/api/products/{product}/"), None)?).await?;
        Ok(expected(answer, 200)?.json::<Product>()?.stock)
    }

    async fn new_product(&self, pool: &Pool, units: i64) -> anyhow::Result<i64> {
        let token = Some(self.admin()?);
        let name = format!("Load test {}", uuid::Uuid::new_v4().simple());
        let category = json!({ "name": name }).to_string();
        let category = pool.send(post("/api/categories/", token, category.into())?).await?;
        let category = expected(category, 201)?.json::<Placed>()?.id;
        let product =
            json!({ "name": name, "price": "9.95", "category": category, "stock": units }).to_string();
        let product = pool.send(post("/api/products/", token, product.into())?).await?;
        Ok(expected(product, 201)?.json::<Placed>()?.id)
    }

    /// As anybody would: each shopper's cart is emptied, and filled a line at a time.
    async fn fill_carts(&self, pool: &Arc<Pool>, basket: Basket) -> anyhow::Result<()> {
        let products: Vec<_> = self.products.iter().copied().map(souk_store::model::ProductId).collect();
        let mut filling = JoinSet::new();
        for (number, token) in self.shoppers.iter().cloned().enumerate() {
            let (pool, lines) = (Arc::clone(pool), basket.lines(&products, number));
            filling.spawn(async move {
                let cleared = with_json(Method::DELETE, "/api/cart/", Some(&token), "".into())?;
                expected(pool.send(cleared).await?, 204)?;
                for (product, quantity) in lines {
                    expected(pool.send(put(&token, product.0, quantity)?).await?, 201)?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(filled) = filling.join_next().await {
            filled?.context("a cart could not be filled")?;
        }
        Ok(())
    }

    /// Ends the play: the server must stop in order, what was acknowledged must be there once, and the books be right.
    pub(crate) async fn close(
        self,
        acknowledged: &[Acknowledged],
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let Some(own) = self.own else {
            return judge_from_outside(&self.pool(8), &self.shoppers, acknowledged, report).await;
        };
        let complaints = own.serving.complaints();
        if !complaints.is_empty() {
            report.say(&format!("the server complained:\n{}", complaints.trim_end()));
        }
        let status = own.serving.stop().await?;
        report.claim(&format!("the server ended in order ({status})"), status.success());
        let orders: Vec<_> = acknowledged.iter().map(|order| OrderId(order.order)).collect();
        own.shop.close("the books", &orders, report).await
    }

    /// Replaces the server that runs by another on the same database and port.
    pub(crate) async fn restart_after_kill(&mut self) -> anyhow::Result<()> {
        let own = self.own.as_mut().context("the server is not this run's own")?;
        own.serving.kill9().await?;
        own.serving = own.souk.serve(self.site.address.port()).await?;
        Ok(())
    }
}

/// An order that a shopper, by his place among them, was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) shopper: usize,
    pub(crate) order: i64,
}

/// The answer, if it has this status.
pub(crate) fn expected(answer: Answer, status: u16) -> anyhow::Result<Answer> {
    ensure!(answer.status.as_u16() == status, "not a {status}: {}", answer.in_words());
    Ok(answer)
}

fn bearers<'a>(tokens: impl Iterator<Item = &'a str>) -> anyhow::Result<Vec<HeaderValue>> {
    tokens
        .map(str::trim)
        .filter(|token| !token.is_empty())
        .map(|token| {
            HeaderValue::from_str(&format!("Bearer {token}")).context("a token has signs that no token has")
        })
        .collect()
}

/// How many pages of the list are looked through for products.
const MOST_PAGES: usize = 10;

/// Products that can be bought, those with the most units first. Others need not be shown to a visitor.
async fn in_stock(pool: &Pool) -> anyhow::Result<Vec<i64>> {
    #[derive(Deserialize)]
    struct Page {
        next: Option<String>,
        results: Vec<Product>,
    }
    #[derive(Deserialize)]
    struct Product {
        id: i64,
        stock: i64,
    }
    let mut products = Vec::new();
    for page in 1..=MOST_PAGES {
        let path = format!("/api/products/?in_stock=true&page_size=100&page={page}");
        let page: Page = expected(pool.send(get(&path, None)?).await?, 200)?.json()?;
        products.extend(page.results);
        if page.next.is_none() {
            break;
        }
    }
    products.sort_by_key(|product| -product.stock);
    Ok(products.into_iter().map(|product| product.id).collect())
}

/// Looks for each acknowledged order in its shopper's list.
async fn judge_from_outside(
    pool: &Pool,
    shoppers: &[HeaderValue],
    acknowledged: &[Acknowledged],
    report: &mut Report,
) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Page {
        next: Option<String>,
        results: Vec<Placed>,
    }
    let mut orders: HashMap<usize, BTreeMap<i64, u64>> = HashMap::new();
    let mut seen = HashSet::new();
    for told in acknowledged {
        if !seen.insert(told.order) {
            report.fault(Fault::Doubled, format!("order {} was acknowledged to two", told.order));
        }
        orders.entry(told.shopper).or_default().insert(told.order, 0);
    }
    for (shopper, mut wanted) in orders {
        let mut next = Some("/api/orders/?page_size=100".to_owned());
        while let Some(path) = next.filter(|_| wanted.values().any(|found| *found == 0)) {
            let answer = pool.send(get(&path, Some(&shoppers[shopper]))?).await?;
            let page: Page = expected(answer, StatusCode::OK.as_u16())?.json()?;
            for order in page.results {
                wanted.entry(order.id).and_modify(|found| *found += 1);
            }
            next = page.next.and_then(|url| url.split_once("/api/").map(|(_, rest)| format!("/api/{rest}")));
        }
        for (order, found) in wanted {
            report.faults(
                Fault::Lost,
                u64::from(found == 0),
                format!("order {order} was acknowledged, and is not listed"),
            );
            report.faults(
                Fault::Doubled,
                found.saturating_sub(1),
                format!("order {order} is listed {found} times"),
            );
        }
    }
    report.say(&format!(
        "all {} acknowledged orders were looked for in their shoppers' lists",
        acknowledged.len()
    ));
    Ok(())
}
