//! The first page: today's orders and revenue, orders by status, what is short of stock, and the newest orders, which a
//! script asks for every few seconds, so that they appear as they are placed.
//!
//! Whoever opens the page has everything counted anew. For all who look on it is done once every few seconds; the newest
//! orders are read each time.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use chrono::NaiveDate;
use moka::future::Cache;
use salvo::Depot;
use souk_store::model::{Money, Timestamp};
use souk_store::reports::{self, Hour, LOW_STOCK, NewOrder, Numbers};
use souk_store::{StoreError, chain};

use super::page::{Layout, Page};
use super::session::staff;
use super::view::{Amount, Count, amount, count, status, when};
use crate::Api;
use crate::error::ApiError;
use crate::extract::api;

/// For how long the numbers are shown again.
const COUNTED_EVERY: Duration = Duration::from_secs(5);

/// How many of the newest orders are shown.
const NEWEST: i64 = 10;

/// What was counted last.
#[derive(Debug)]
pub(crate) struct Dashboard(Cache<(), Arc<Numbers>>);

impl Default for Dashboard {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(1).time_to_live(COUNTED_EVERY).build())
    }
}

#[derive(Template)]
#[template(path = "admin/dashboard.html")]
struct DashboardPage {
    layout: Layout,
    live: Live,
}

/// What changes while one looks at it.
#[derive(Template)]
#[template(path = "admin/live.html")]
struct Live {
    day: NaiveDate,
    orders: i64,
    revenue: Money,
    plots: [Plot; 2],
    numbers: Arc<Numbers>,
    newest: Vec<NewOrder>,
}

/// Bars by the hour.
struct Plot {
    title: &'static str,
    highest: String,
    bars: Vec<Bar>,
}

struct Bar {
    hour: i64,
    /// Where it begins, from the left.
    x: i64,
    /// Where it begins, from the top, and how high it is, in hundredths of the plot.
    y: i64,
    height: i64,
    label: String,
}

impl Plot {
    fn new(
        title: &'static str,
        hours: &[Hour],
        value: impl Fn(&Hour) -> i64,
        label: impl Fn(i64) -> String,
    ) -> Self {
        let most = hours.iter().map(&value).max().unwrap_or(0);
        let bars = hours.iter().map(|hour| {
            let value = value(hour);
            // What is there at all is seen, however little it is.
            let height = if value == 0 { 0 } else { (value.saturating_mul(100) / most).max(2) };
            let label = format!("{:02}:00 to {:02}:00 UTC: {}", hour.hour, hour.hour + 1, label(value));
            Bar { hour: hour.hour, x: hour.hour * 20 + 3, y: 100 - height, height, label }
        });
        Self { title, bars: bars.collect(), highest: label(most) }
    }
}

async fn live(api: &Api, now: Timestamp, numbers: Arc<Numbers>) -> Result<Live, ApiError> {
    let newest = reports::newest(&api.db, NEWEST).await?;
    let hours = &numbers.hours;
    Ok(Live {
        day: now.day(),
        orders: hours.iter().map(|hour| hour.orders).sum(),
        revenue: hours.iter().map(|hour| hour.revenue).sum(),
        plots: [
            Plot::new("Orders", hours, |hour| hour.orders, |orders| Count(orders).to_string()),
            Plot::new("Revenue", hours, |hour| hour.revenue.0, |cents| Amount(Money(cents)).to_string()),
        ],
        numbers,
        newest,
    })
}

pub(super) async fn show(depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, now) = (api(depot), Timestamp::now());
    let numbers = Arc::new(reports::numbers(&api.db, now).await?);
    // Those who look on see no older ones after this.
    api.dashboard.0.insert((), Arc::clone(&numbers)).await;
    let live = live(api, now, numbers).await?;
    Page::ok(&DashboardPage { layout: Layout::new(staff(depot), "dashboard", "Dashboard"), live })
}

/// The same without what is around it, for the script.
pub(super) async fn show_live(depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, now) = (api(depot), Timestamp::now());
    let numbers =
        api.dashboard.0.try_get_with((), async { reports::numbers(&api.db, now).await.map(Arc::new) });
    let numbers = Box::pin(numbers).await.map_err(|error: Arc<StoreError>| {
        tracing::warn!(error = chain(&*error), "the numbers of the dashboard could not be counted");
        ApiError::unavailable("The database is not available. Try again later.")
    })?;
    Page::part(&live(api, now, numbers).await?)
}
