//! Orders: the list with its filters, one with all there is to it, and moving them on, one or many at once.
//!
//! Steps are the ledger's, as behind the API, so whoever watches hears of them at once. Many at once are works of one
//! batch or two; each is done or refused for itself, and all to their end, even if the browser leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use chrono::NaiveDate;
use futures_util::future::join_all;
use salvo::{Depot, Request, Router};
use souk_actors::{Refused, to_its_end};
use souk_store::accounts;
use souk_store::changes::Kind;
use souk_store::ledger::Refusal;
use souk_store::model::{Money, Order, OrderId, OrderStatus, Step, Timestamp, User, UserId};
use souk_store::orders::{self, OrderQuery};

use super::export;
use super::form::{Form, Sheet};
use super::history::{self, Entry};
use super::list::{Choice, Pager, Paging, back_to, chosen, filters, link};
use super::page::{Flash, Layout, Page};
use super::session::{form, staff};
use super::view::{amount, count, plural, status, when};
use crate::Api;
use crate::error::ApiError;
use crate::extract::{api, id};
use crate::route::route;

pub(super) const LIST: &str = "/admin/orders/";

/// The routes of this file.
pub(super) fn routes() -> Router {
    Router::with_path("orders")
        .get(route!(list(req, depot)))
        .push(Router::with_path("export").get(route!(export::of_orders(req, depot, res))))
        .push(Router::with_path("step").post(route!(move_many_on(depot))))
        .push(
            Router::with_path("{order}")
                .get(route!(show(req, depot)))
                .push(Router::with_path("step").post(route!(move_on(req, depot)))),
        )
}

/// Which orders a list shows.
pub(super) struct Filter {
    pub(super) query: OrderQuery,
    pub(super) sheet: Sheet,
}

/// Reads the filters of a list; what is wrong with one is said beside it, and it filters nothing.
pub(super) async fn read_filter(req: &Request, api: &Api) -> Result<Filter, ApiError> {
    let form = filters(req);
    let mut fields = form.fields();
    let status = fields.choice::<OrderStatus>("status").optional();
    let from = fields.date("from").optional();
    let until = fields.date("until").optional();
    if let (Some(from), Some(until)) = (from, until)
        && until < from
    {
        fields.error("until", "This day is before the first one.");
    }
    let customer = fields.text("customer").max(accounts::LONGEST_EMAIL).optional();
    let user = match &customer {
        Some(customer) => {
            let found = find_customer(api, customer).await?;
            if found.is_none() {
                fields.error("customer", "There is no account with this email address or number.");
            }
            found
        }
        None => None,
    };
    let next_day = |day: NaiveDate| day.succ_opt().map(Timestamp::of_day);
    let query = OrderQuery {
        user,
        status,
        from: from.map(Timestamp::of_day),
        before: until.and_then(next_day),
        ordering: Vec::new(),
    };
    Ok(Filter { query, sheet: Sheet::refused(form, fields.into_errors()) })
}

/// Whoever has this email address, or this id.
async fn find_customer(api: &Api, text: &str) -> Result<Option<UserId>, ApiError> {
    if let Ok(id) = text.parse::<UserId>() {
        return Ok(api.cache.user(&api.db, id).await?.map(|user| user.id));
    }
    Ok(accounts::find_by_email(&api.db, text).await?.map(|found| found.user.id))
}

#[derive(Template)]
#[template(path = "admin/orders.html")]
struct ListPage {
    layout: Layout,
    sheet: Sheet,
    statuses: Vec<Choice>,
    rows: Vec<Row>,
    is_filtered: bool,
    pager: Pager,
    /// The list's query, to come back to.
    back: String,
}

/// An order in a list.
pub(super) struct Row {
    pub(super) id: OrderId,
    pub(super) customer: String,
    pub(super) user: UserId,
    pub(super) created_at: Timestamp,
    pub(super) status: OrderStatus,
    pub(super) items: i64,
    pub(super) total: Money,
}

/// Orders with the addresses of those who placed them.
pub(super) async fn rows(api: &Api, orders: Vec<Order>) -> Result<Vec<Row>, ApiError> {
    let mut rows = Vec::with_capacity(orders.len());
    for order in orders {
        let user = api.cache.user(&api.db, order.user_id).await?;
        rows.push(Row {
            id: order.id,
            customer: user.map_or_else(|| format!("user {}", order.user_id), |user| user.email.clone()),
            user: order.user_id,
            created_at: order.created_at,
            status: order.status,
            items: order.items.iter().map(|item| item.quantity).sum(),
            total: order.total,
        });
    }
    Ok(rows)
}

async fn list(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let api = api(depot);
    let Filter { query, sheet } = read_filter(req, api).await?;
    let paging = Paging::of(req);
    let (found, total) = orders::list(&api.db, &query, paging.limit(), paging.offset()).await?;
    if let Some(elsewhere) = paging.beyond(req, total) {
        return Ok(elsewhere);
    }
    let mut statuses = vec![Choice::new("", "Any status")];
    statuses.extend(OrderStatus::ALL.map(|status| Choice::new(status.as_str(), status.as_str())));
    Page::ok(&ListPage {
        layout: Layout::new(staff(depot), "orders", "Orders"),
        is_filtered: sheet.has_any(&["status", "customer", "from", "until"]),
        sheet,
        statuses,
        rows: rows(api, found).await?,
        pager: paging.pager(req, total),
        back: link(req, &[]),
    })
}

#[derive(Template)]
#[template(path = "admin/order.html")]
struct OrderPage {
    layout: Layout,
    order: Order,
    user: Option<Arc<User>>,
    steps: Vec<Offered>,
    changes: Vec<Entry>,
}

/// A step that an order can take now.
struct Offered {
    to: OrderStatus,
    label: &'static str,
    takes_back: bool,
}

async fn show(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let api = api(depot);
    let order = orders::find(&api.db, id(req, "order")?).await?.ok_or_else(ApiError::not_found)?;
    let steps = OrderStatus::ALL.into_iter().filter_map(|to| match order.status.step(to) {
        Ok(Step::Move { restock }) => Some(Offered { to, label: verb(to), takes_back: restock }),
        _ => None,
    });
    Page::ok(&OrderPage {
        layout: Layout::new(staff(depot), "orders", format!("Order #{}", order.id)),
        user: api.cache.user(&api.db, order.user_id).await?,
        steps: steps.collect(),
        changes: history::of(api, Kind::Order, order.id.0).await?,
        order,
    })
}

/// What a button says that moves an order there.
fn verb(to: OrderStatus) -> &'static str {
    match to {
        OrderStatus::Pending => "Put back",
        OrderStatus::Shipped => "Ship",
        OrderStatus::Delivered => "Mark as delivered",
        OrderStatus::Cancelled => "Cancel the order",
    }
}

/// The status that a form asks for.
fn wanted(form: &Form) -> Result<OrderStatus, ApiError> {
    form.text("to").parse().map_err(|()| ApiError::bad_request("This is no status of an order."))
}

async fn move_on(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let order: OrderId = id(req, "order")?;
    let to = wanted(form(depot))?;
    let ledger = api(depot).handles.ledger.by(staff(depot).author());
    let flash = match ledger.step_order(order, to, None).await {
        Ok(true) => Flash::done(format!("Order #{order} is {to} now.")),
        Ok(false) => Flash::done(format!("Order #{order} was {to} already.")),
        Err(refused) => match why(order, &refused) {
            Some(why) => Flash::warning(why),
            None => return Err(refused.into()),
        },
    };
    Ok(Page::see_with(&format!("{LIST}{order}/"), staff(depot), &flash))
}

/// Why an order was left as it is; None if that has nothing to do with the order.
fn why(order: OrderId, refused: &Refused) -> Option<String> {
    match refused {
        Refused::Books(Refusal::WrongStep(wrong)) => {
            Some(format!("Order #{order} is {} and cannot become {}.", wrong.from, wrong.to))
        }
        Refused::Books(Refusal::StockIs(_)) => Some(format!(
            "Order #{order} was not cancelled: its units would take the stock above its highest level."
        )),
        _ => None,
    }
}

async fn move_many_on(depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, form) = (api(depot), form(depot));
    let to = wanted(form)?;
    let back = back_to(LIST, form);
    let see = |flash: &Flash| Ok(Page::see_with(&back, staff(depot), flash));
    let chosen: Vec<OrderId> = match chosen(form, "order", "moved on") {
        Ok(chosen) => chosen,
        Err(flash) => return see(&flash),
    };
    let ledger = api.handles.ledger.by(staff(depot).author());
    let steps = chosen.into_iter().map(move |order| {
        let ledger = ledger.clone();
        async move { (order, ledger.step_order(order, to, None).await) }
    });
    let outcomes = to_its_end(async move { join_all(steps).await }).await;
    see(&told(to, &outcomes))
}

/// What became of a bulk step: `8 shipped. 2 were left: cancelled already.`
fn told(to: OrderStatus, outcomes: &[(OrderId, Result<bool, Refused>)]) -> Flash {
    let mut moved = 0;
    let mut left: BTreeMap<String, usize> = BTreeMap::new();
    let mut details = Vec::new();
    for (order, outcome) in outcomes {
        let reason = match outcome {
            Ok(false) => format!("{to} already"),
            Ok(true) => {
                moved += 1;
                continue;
            }
            Err(Refused::Books(Refusal::WrongStep(wrong))) => format!("{} already", wrong.from),
            Err(Refused::Books(Refusal::OrderNotFound)) => "not there".to_owned(),
            Err(Refused::Uncertain) => "not known, look before you try again".to_owned(),
            Err(refused) => {
                details.extend(why(*order, refused));
                "not possible now".to_owned()
            }
        };
        *left.entry(reason).or_default() += 1;
    }
    let mut text = match moved {
        0 => format!("No order was {to}."),
        moved => format!("{} {to}.", plural(moved, "order", "orders")),
    };
    if left.is_empty() {
        return Flash::done(text);
    }
    let reasons = left.iter().map(|(reason, count)| match (count, reason.strip_suffix(" already")) {
        (1, Some(status)) => format!("1 was {status} already"),
        (count, Some(status)) => format!("{count} were {status} already"),
        (count, None) => format!("{count}: {reason}"),
    });
    text = format!("{text} Left as they were: {}.", reasons.collect::<Vec<_>>().join(", "));
    Flash::warning(text).with(details)
}

#[cfg(test)]
mod tests {
    use souk_store::model::WrongStep;

    use super::*;

    #[test]
    fn a_bulk_step_says_how_many_moved_and_why_the_others_did_not() {
        let wrong =
            |from| Err(Refused::Books(Refusal::WrongStep(WrongStep { from, to: OrderStatus::Shipped })));
        let outcomes = [
            (OrderId(1), Ok(true)),
            (OrderId(2), wrong(OrderStatus::Cancelled)),
            (OrderId(3), wrong(OrderStatus::Cancelled)),
            (OrderId(4), Ok(false)),
        ];
        let all = told(OrderStatus::Shipped, &outcomes);
        assert_eq!(
            all.text,
            "1 order shipped. Left as they were: 2 were cancelled already, 1 was shipped already."
        );
        assert!(all.is_warning);
        let one = told(OrderStatus::Shipped, &outcomes[..1]);
        assert_eq!((one.text.as_str(), one.is_warning), ("1 order shipped.", false));
        assert_eq!(
            told(OrderStatus::Shipped, &outcomes[3..]).text,
            "No order was shipped. Left as they were: 1 was shipped already."
        );
    }
}
