//! A product's stock, its movements, and its end.

use askama::Template;
use salvo::http::StatusCode;
use salvo::{Depot, Request};
use souk_actors::Refused;
use souk_store::catalogue::{self, TakenAlong};
use souk_store::ledger::{Refusal, StockMove};
use souk_store::model::{MAX_STOCK, Movement, Product};

use super::super::form::Sheet;
use super::super::list::{Pager, Paging};
use super::super::page::{Flash, Layout, Page};
use super::super::session::{form, staff};
use super::super::view::{count, when};
use super::LIST;
use super::edit::{find, page};
use crate::error::{ApiError, FieldErrors};
use crate::extract::api;

/// Adds units, or takes them: what came in, what broke. Unlike the level in the product's form it is right whatever is sold
/// meanwhile.
pub(super) async fn move_stock(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, staff, form) = (api(depot), staff(depot), form(depot));
    let product = find(req, api).await?;
    let mut fields = form.fields();
    let units = fields.integer("change").min(-MAX_STOCK).max(MAX_STOCK).required();
    let errors = fields.into_errors();
    let again = |product: Product, errors: FieldErrors| {
        page(depot, StatusCode::BAD_REQUEST, product, None, Sheet::refused(form.without_files(), errors))
    };
    if !errors.is_empty() {
        return again(product, errors).await;
    }
    match api.handles.ledger.by(staff.author()).move_stock(product.id, StockMove::Change(units)).await {
        Ok(product) => {
            let flash =
                Flash::done(format!("The stock was moved by {units:+}: there are {} now.", product.stock));
            Ok(Page::see_with(&format!("{LIST}{}/", product.id), staff, &flash))
        }
        Err(Refused::Books(Refusal::StockIs(level))) => {
            let message = format!("There are {level}, which does not allow this.");
            again(Product { stock: level, ..product }, FieldErrors::of("change", message)).await
        }
        Err(refused) => Err(refused.into()),
    }
}

#[derive(Template)]
#[template(path = "admin/movements.html")]
struct MovementsPage {
    layout: Layout,
    product: Product,
    movements: Vec<Movement>,
    pager: Pager,
}

pub(super) async fn show_movements(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let api = api(depot);
    let product = find(req, api).await?;
    let paging = Paging::of(req);
    let (movements, total) =
        catalogue::movements(&api.db, product.id, paging.limit(), paging.offset()).await?;
    if let Some(elsewhere) = paging.beyond(req, total) {
        return Ok(elsewhere);
    }
    Page::ok(&MovementsPage {
        layout: Layout::new(staff(depot), "products", format!("Movements of {}", product.name)),
        product,
        movements,
        pager: paging.pager(req, total),
    })
}

#[derive(Template)]
#[template(path = "admin/product_delete.html")]
struct DeletePage {
    layout: Layout,
    product: Product,
    along: TakenAlong,
}

pub(super) async fn confirm_delete(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let api = api(depot);
    let product = find(req, api).await?;
    Page::ok(&DeletePage {
        layout: Layout::new(staff(depot), "products", format!("Delete {}?", product.name)),
        along: catalogue::taken_along(&api.db, product.id).await?,
        product,
    })
}

pub(super) async fn delete(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, staff) = (api(depot), staff(depot));
    let product = find(req, api).await?;
    api.handles.ledger.by(staff.author()).delete_product(product.id, None).await?;
    if product.image.is_some() {
        api.media.sweep_soon();
    }
    let flash = Flash::done(format!("{} was deleted. Orders keep their own copy of it.", product.name));
    Ok(Page::see_with(LIST, staff, &flash))
}
