//! The form of a product, new or not.
//!
//! It carries what it was filled in from: when the product was last changed, and its level. If an admin changed the product
//! meanwhile, or it was sold while somebody else's level was typed in, nothing is done, and the form comes back as it was
//! typed, saying what is there now. Whether that is so is judged by the ledger, in the transaction that writes.

use askama::Template;
use salvo::http::StatusCode;
use salvo::{Depot, Request};
use souk_actors::Refused;
use souk_store::catalogue;
use souk_store::changes::Kind;
use souk_store::ledger::{NewProduct, ProductChange, Refusal, Seen};
use souk_store::model::{MAX_STOCK, Movement, Product, ProductId, Timestamp};

use super::super::form::{Form, Sheet};
use super::super::history::{self, Entry};
use super::super::import::differences;
use super::super::list::Choice;
use super::super::page::{Flash, Layout, Page};
use super::super::session::{form, staff};
use super::super::view::{count, image, when};
use super::{LIST, categories_as_choices};
use crate::Api;
use crate::catalogue::{as_new, read_fields};
use crate::error::{ApiError, FieldErrors};
use crate::extract::{api, id};
use crate::media;

/// How many movements a product's page shows.
const MOVEMENTS: i64 = 6;

#[derive(Template)]
#[template(path = "admin/product_new.html")]
struct NewPage {
    layout: Layout,
    sheet: Sheet,
    picture: Option<String>,
    categories: Vec<Choice>,
}

#[derive(Template)]
#[template(path = "admin/product.html")]
pub(super) struct ProductPage {
    layout: Layout,
    sheet: Sheet,
    categories: Vec<Choice>,
    product: Product,
    picture: Option<String>,
    /// The level that the form was filled in from, and when the product was last changed before.
    was: i64,
    seen: String,
    /// The form for moving the stock.
    stock_sheet: Sheet,
    movements: Vec<Movement>,
    changes: Vec<Entry>,
}

/// A product's form as it is shown first.
fn form_of(product: &Product) -> Form {
    let mut values = vec![
        ("name", product.name.clone()),
        ("description", product.description.clone()),
        ("price", product.price.to_string()),
        ("category", product.category_id.to_string()),
        ("sku", product.sku.clone()),
        ("stock", product.stock.to_string()),
    ];
    for (name, is_ticked) in [("featured", product.featured), ("is_active", product.is_active)] {
        if is_ticked {
            values.push((name, "true".to_owned()));
        }
    }
    Form::of(values)
}

async fn new_page(depot: &Depot, status: StatusCode, sheet: Sheet) -> Result<Page, ApiError> {
    let api = api(depot);
    let categories = api.cache.categories(&api.db, true).await?;
    let page = NewPage {
        layout: Layout::new(staff(depot), "products", "New product"),
        sheet,
        picture: None,
        categories: categories_as_choices("Choose a category", &categories),
    };
    Page::html(status, &page)
}

pub(super) async fn show_new(depot: &mut Depot) -> Result<Page, ApiError> {
    let first = Form::of([("stock", "0".to_owned()), ("is_active", "true".to_owned())]);
    new_page(depot, StatusCode::OK, Sheet::of(first)).await
}

/// Reads the fields of the form; a box that is not ticked is sent as nothing at all.
async fn read(
    api: &Api,
    form: &Form,
) -> Result<Result<(ProductChange, media::Change), FieldErrors>, ApiError> {
    let mut fields = form.fields();
    let mut change = read_fields(&mut fields, api, true).await?;
    change.featured = Some(form.is_ticked("featured"));
    change.is_active = Some(form.is_ticked("is_active"));
    let image = form.image(api, &mut fields).await?;
    let errors = fields.into_errors();
    Ok(if errors.is_empty() { Ok((change, image)) } else { Err(errors) })
}

pub(super) async fn create(depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, staff, form) = (api(depot), staff(depot), form(depot));
    let refused =
        |errors| new_page(depot, StatusCode::BAD_REQUEST, Sheet::refused(form.without_files(), errors));
    let (read, image) = match read(api, form).await? {
        Ok(read) => read,
        Err(errors) => return refused(errors).await,
    };
    let new = as_new(read).ok_or_else(ApiError::internal)?;
    let ledger = api.handles.ledger.by(staff.author());
    let named = |image: Option<_>| ledger.create_product(NewProduct { image: image.flatten(), ..new });
    match api.media.keep(image, named).await {
        Ok(product) => {
            let flash = Flash::done(format!("{} was created.", product.name));
            Ok(Page::see_with(&format!("{LIST}{}/", product.id), staff, &flash))
        }
        Err(error) => refused(error.into_fields()?).await,
    }
}

/// The product as the database has it now.
pub(super) async fn find(req: &Request, api: &Api) -> Result<Product, ApiError> {
    let id: ProductId = id(req, "product")?;
    catalogue::product(&api.db, id).await?.ok_or_else(ApiError::not_found)
}

/// A product's page, with its form as it is or as it was sent. `was` and `seen` are what a form sent from it will carry.
pub(super) async fn page(
    depot: &Depot,
    status: StatusCode,
    product: Product,
    sheet: Option<(Sheet, i64, String)>,
    stock_sheet: Sheet,
) -> Result<Page, ApiError> {
    let api = api(depot);
    let categories = api.cache.categories(&api.db, true).await?;
    let (sheet, was, seen) = sheet
        .unwrap_or_else(|| (Sheet::of(form_of(&product)), product.stock, product.updated_at.to_string()));
    let (movements, _) = catalogue::movements(&api.db, product.id, MOVEMENTS, 0).await?;
    let page = ProductPage {
        layout: Layout::new(staff(depot), "products", product.name.as_str()),
        sheet,
        categories: categories_as_choices("Choose a category", &categories),
        was,
        seen,
        stock_sheet,
        movements,
        changes: history::of(api, Kind::Product, product.id.0).await?,
        picture: product.image.as_deref().map(image),
        product,
    };
    Page::html(status, &page)
}

pub(super) async fn show(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let product = find(req, api(depot)).await?;
    page(depot, StatusCode::OK, product, None, Sheet::default()).await
}

/// What the form was filled in from.
fn seen(form: &Form) -> Option<(i64, Timestamp)> {
    let was = form.text("was").parse().ok().filter(|was| (0..=MAX_STOCK).contains(was))?;
    Some((was, form.seen()?))
}

pub(super) async fn save(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, staff, form) = (api(depot), staff(depot), form(depot));
    let product = find(req, api).await?;
    let (was, updated_at) = seen(form).ok_or_else(Form::unseen)?;
    let again = |status, product, errors, was, seen: String| {
        let sheet = Some((Sheet::refused(form.without_files(), errors), was, seen));
        page(depot, status, product, sheet, Sheet::default())
    };
    let (mut change, image) = match read(api, form).await? {
        Ok(read) => read,
        Err(errors) => {
            return again(StatusCode::BAD_REQUEST, product, errors, was, form.text("seen").to_owned()).await;
        }
    };
    // Who leaves the level alone means no level: sales in between are none of this form's business.
    change.stock = change.stock.filter(|stock| *stock != was);
    let seen = Seen { version: None, updated_at: Some(updated_at), stock: change.stock.map(|_| was) };
    let typed = change.clone();
    let ledger = api.handles.ledger.by(staff.author());
    let mut why = None;
    let named = |image| {
        let (ledger, why) = (&ledger, &mut why);
        async move {
            let outcome = ledger.change_product(product.id, ProductChange { image, ..change }, seen).await;
            outcome.inspect_err(|refused| *why = Some(refused.clone()))
        }
    };
    let refused = match (api.media.keep(image, named).await, why) {
        (Ok(product), _) => {
            let flash = Flash::done(format!("{} was saved.", product.name));
            return Ok(Page::see_with(&format!("{LIST}{}/", product.id), staff, &flash));
        }
        (Err(_), Some(refused)) => refused,
        (Err(error), None) => return Err(error),
    };
    let now = find(req, api).await?;
    let conflict = StatusCode::CONFLICT;
    match refused {
        Refused::Books(Refusal::StockIs(level)) => {
            let message = format!(
                "Nothing was saved: when this form was opened there were {was}, and now there are {level}. \
                 Save again to set the level to what is typed here."
            );
            let errors = FieldErrors::of("stock", message);
            again(conflict, now, errors, level, form.text("seen").to_owned()).await
        }
        Refused::Books(Refusal::ProductChanged) => {
            let known = history::of(api, Kind::Product, now.id.0).await?;
            // Of the API's changes there is no history.
            let who = known.iter().find(|entry| entry.change.at == now.updated_at);
            let who = who.map_or("somebody, through the API,", |entry| entry.change.admin_email.as_str());
            let categories = api.cache.categories(&api.db, true).await?;
            let category = categories.iter().find(|category| Some(category.id) == typed.category_id);
            let differences = match differences(&now, &typed, category) {
                none if none.is_empty() => "What you typed is what is there now.".to_owned(),
                some => format!("Save again to put what you typed in its place: {}.", some.join("; ")),
            };
            let message = format!(
                "Nothing was saved: {who} changed this product while the form was open. {differences}"
            );
            let seen = now.updated_at.to_string();
            again(conflict, now, FieldErrors::of_all(&message), was, seen).await
        }
        refused => {
            let errors = ApiError::from(refused).into_fields()?;
            again(StatusCode::BAD_REQUEST, now, errors, was, form.text("seen").to_owned()).await
        }
    }
}
