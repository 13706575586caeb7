//! Products: the list with its filters, one with its form, and what is done to many at once. What else belongs to one, its
//! stock and its end, is in `stock`; the form itself in `edit`.
//!
//! All writes are the ledger's, by whom is noted with them. Lists are read from the database, not from the cache: staff
//! look at what the books say.

mod edit;
mod stock;

use std::sync::Arc;

use askama::Template;
use futures_util::future::join_all;
use salvo::{Depot, Request, Router};
use souk_actors::{Ledger, Refused, to_its_end};
use souk_store::ledger::{ProductChange, Refusal, Seen, StockMove};
use souk_store::model::{Category, CategoryId, MAX_STOCK, Product, ProductId};
use souk_store::reports::LOW_STOCK;
use souk_store::search::SearchWords;
use souk_store::search::staff::{self as search, Left, StaffFilter, StaffSort};

use super::export;
use super::form::{Form, Sheet};
use super::import;
use super::list::{Choice, Pager, Paging, back_to, chosen, filters, link};
use super::page::{Flash, Layout, Page};
use super::session::{form, staff};
use super::view::{amount, count, plural, thumbnail, when};
use crate::Api;
use crate::error::ApiError;
use crate::extract::api;
use crate::fields::Fields;
use crate::route::route;

pub(super) const LIST: &str = "/admin/products/";

/// The routes of this file, and of those below it.
pub(super) fn routes() -> Router {
    Router::with_path("products")
        .get(route!(list(req, depot)))
        .push(Router::with_path("new").get(route!(edit::show_new(depot))).post(route!(edit::create(depot))))
        .push(Router::with_path("export").get(route!(export::of_products(req, depot, res))))
        .push(Router::with_path("import").get(import::show).post(route!(import::take(depot))))
        .push(Router::with_path("bulk").post(route!(change_many(depot))))
        .push(
            Router::with_path("{product}")
                .get(route!(edit::show(req, depot)))
                .post(route!(edit::save(req, depot)))
                .push(Router::with_path("stock").post(route!(stock::move_stock(req, depot))))
                .push(Router::with_path("movements").get(route!(stock::show_movements(req, depot))))
                .push(
                    Router::with_path("delete")
                        .get(route!(stock::confirm_delete(req, depot)))
                        .post(route!(stock::delete(req, depot))),
                ),
        )
}

/// Reads the filters of a list; what is wrong with one is said beside it, and it filters nothing.
pub(super) fn read_filter(req: &Request, categories: &[Category]) -> (StaffFilter, Sheet) {
    let form = filters(req);
    let mut fields = form.fields();
    let words = fields.text("search").max(255).optional();
    let category = fields.id::<CategoryId>("category").optional();
    let is_known = |id: &CategoryId| categories.iter().any(|category| category.id == *id);
    if category.is_some_and(|id| !is_known(&id)) {
        fields.error("category", "This category is no longer there.");
    }
    let filter = StaffFilter {
        category: category.filter(is_known),
        is_active: fields.boolean("is_active").optional(),
        featured: fields.boolean("featured").optional(),
        left: fields.choice::<Left>("stock").optional(),
        words: words.as_deref().map(SearchWords::new).unwrap_or_default(),
    };
    (filter, Sheet::refused(form, fields.into_errors()))
}

/// The categories as choices, under a first one that is none.
fn categories_as_choices(none: &str, categories: &[Category]) -> Vec<Choice> {
    let mut choices = vec![Choice::new("", none)];
    choices.extend(categories.iter().map(|category| Choice::new(category.id.to_string(), &*category.name)));
    choices
}

#[derive(Template)]
#[template(path = "admin/products.html")]
struct ListPage {
    layout: Layout,
    sheet: Sheet,
    categories: Vec<Choice>,
    activity: [Choice; 3],
    features: [Choice; 3],
    levels: [Choice; 4],
    columns: Vec<Column>,
    products: Vec<Product>,
    is_filtered: bool,
    has_categories: bool,
    pager: Pager,
    back: String,
}

/// The head of a column by which the list can be ordered.
struct Column {
    name: &'static str,
    link: String,
    /// As `aria-sort` says it; empty if the list is not ordered by it.
    order: &'static str,
    is_amount: bool,
}

fn columns(req: &Request, sort: StaffSort, descending: bool) -> Vec<Column> {
    let names = [
        (StaffSort::Name, "Product", false),
        (StaffSort::Price, "Price", true),
        (StaffSort::Stock, "Stock", true),
        (StaffSort::Created, "Created", false),
    ];
    let columns = names.into_iter().map(|(by, name, is_amount)| {
        let turned = if by == sort && !descending { format!("-{by}") } else { by.to_string() };
        let order = match (by == sort, descending) {
            (false, _) => "",
            (true, false) => "ascending",
            (true, true) => "descending",
        };
        Column { name, link: link(req, &[("sort", &turned), ("page", "")]), order, is_amount }
    });
    columns.collect()
}

/// By what a list is to be ordered, and whether backwards; what is no such order is the newest first.
fn order_of(req: &Request) -> (StaffSort, bool) {
    let term = req.query::<String>("sort").unwrap_or_default();
    let (name, descending) = term.strip_prefix('-').map_or((term.as_str(), false), |name| (name, true));
    name.parse().map_or((StaffSort::Created, true), |sort| (sort, descending))
}

async fn list(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let api = api(depot);
    let categories = api.cache.categories(&api.db, true).await?;
    let (filter, sheet) = read_filter(req, &categories);
    let (paging, (sort, descending)) = (Paging::of(req), order_of(req));
    let part = (paging.limit(), paging.offset());
    let (products, total) = search::list(&api.db, &filter, (sort, descending), part, &categories).await?;
    if let Some(elsewhere) = paging.beyond(req, total) {
        return Ok(elsewhere);
    }
    Page::ok(&ListPage {
        layout: Layout::new(staff(depot), "products", "Products"),
        is_filtered: sheet.has_any(&["search", "category", "is_active", "featured", "stock"]),
        sheet,
        categories: categories_as_choices("Any category", &categories),
        activity: Choice::of_filter("Any", "Active", "Not active"),
        features: Choice::of_filter("Any", "Featured", "Not featured"),
        levels: [
            Choice::new("", "Any stock"),
            Choice::new("in", "In stock"),
            Choice::new("low", format!("Low: 1 to {LOW_STOCK}")),
            Choice::new("out", "Sold out"),
        ],
        columns: columns(req, sort, descending),
        products,
        has_categories: !categories.is_empty(),
        pager: paging.pager(req, total),
        back: link(req, &[]),
    })
}

/// What is to be done to each of the products that were chosen.
#[derive(Clone)]
enum Wanted {
    Change(ProductChange),
    Move(i64),
}

/// Reads what is to be done, and the words for it when it is.
async fn wanted(api: &Api, form: &Form) -> Result<Result<(Wanted, String), String>, ApiError> {
    let change = |change: ProductChange, done: &str| Ok(Ok((Wanted::Change(change), done.to_owned())));
    let switch = ProductChange::default;
    match form.text("action") {
        "activate" => change(ProductChange { is_active: Some(true), ..switch() }, "activated"),
        "deactivate" => change(ProductChange { is_active: Some(false), ..switch() }, "deactivated"),
        "feature" => change(ProductChange { featured: Some(true), ..switch() }, "featured"),
        "unfeature" => change(ProductChange { featured: Some(false), ..switch() }, "no longer featured"),
        "category" => {
            let categories = api.cache.categories(&api.db, true).await?;
            let id = form.text("category").parse::<CategoryId>().ok();
            match categories.iter().find(|category| Some(category.id) == id) {
                Some(category) => {
                    let moved = ProductChange { category_id: Some(category.id), ..switch() };
                    change(moved, &format!("moved to {}", category.name))
                }
                None => Ok(Err("Nothing was changed: choose a category to move them to.".to_owned())),
            }
        }
        "stock" => {
            let mut fields: Fields = form.fields();
            let units = fields.integer("change").min(-MAX_STOCK).max(MAX_STOCK).required();
            let errors = fields.into_errors();
            Ok(match errors.messages("change") {
                [] if units == 0 => Err("Nothing was changed: the stock was to move by 0.".to_owned()),
                [] => Ok((Wanted::Move(units), format!("moved by {units:+} units"))),
                [message, ..] => {
                    Err(format!("Nothing was changed: for the stock, {}", message.to_lowercase()))
                }
            })
        }
        _ => Err(ApiError::bad_request("This is nothing that can be done to products.")),
    }
}

async fn change_many(depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, form, staff) = (api(depot), form(depot), staff(depot));
    let back = back_to(LIST, form);
    let see = |flash: &Flash| Ok(Page::see_with(&back, staff, flash));
    let chosen: Vec<ProductId> = match chosen(form, "product", "changed") {
        Ok(chosen) => chosen,
        Err(flash) => return see(&flash),
    };
    let (wanted, done) = match wanted(api, form).await? {
        Ok(wanted) => wanted,
        Err(why) => return see(&Flash::warning(why)),
    };
    let ledger = Arc::new(api.handles.ledger.by(staff.author()));
    let works = chosen.into_iter().map(move |product| {
        let (ledger, wanted) = (Arc::clone(&ledger), wanted.clone());
        async move { (product, one_of_many(&ledger, product, wanted).await) }
    });
    let outcomes = to_its_end(async move { join_all(works).await }).await;
    let count = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).count();
    let left: Vec<_> =
        outcomes.iter().filter_map(|(id, outcome)| Some(why(*id, outcome.as_ref().err()?))).collect();
    let text = format!("{} {done}.", plural(count, "product", "products"));
    if left.is_empty() {
        return see(&Flash::done(text));
    }
    see(&Flash::warning(format!("{text} Left as they were: {}.", left.len())).with(left))
}

async fn one_of_many(ledger: &Ledger, product: ProductId, wanted: Wanted) -> Result<Product, Refused> {
    match wanted {
        Wanted::Change(change) => ledger.change_product(product, change, Seen::default()).await,
        Wanted::Move(units) => ledger.move_stock(product, StockMove::Change(units)).await,
    }
}

/// Why a product was left as it is.
fn why(product: ProductId, refused: &Refused) -> String {
    match refused {
        Refused::Books(Refusal::StockIs(stock)) => {
            format!("Product {product}: the stock is {stock}, which does not allow this.")
        }
        Refused::Books(Refusal::ProductNotFound) => format!("Product {product} is no longer there."),
        Refused::Books(Refusal::CategoryNotFound) => {
            format!("Product {product}: the category is no longer there.")
        }
        Refused::Uncertain => format!("Product {product}: not known; look before you try again."),
        _ => format!("Product {product}: not possible at the moment."),
    }
}
