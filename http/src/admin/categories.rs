//! Categories: the list, their form, and their end. The rules are those of the API; a category that somebody else changed
//! since its form was opened is not overwritten.

use std::sync::Arc;

use askama::Template;
use salvo::http::StatusCode;
use salvo::{Depot, Request, Router};
use souk_store::cache::Key;
use souk_store::catalogue::{self, CategoryChange, CategoryRefusal, NewCategory};
use souk_store::changes::Kind;
use souk_store::model::{Category, CategoryId};

use super::form::{Form, Sheet};
use super::history::{self, Entry};
use super::page::{Flash, Layout, Page};
use super::session::{form, staff};
use super::view::{count, image, thumbnail, when};
use crate::Api;
use crate::categories::{self, as_new, read_fields, refusal, write};
use crate::error::{ApiError, FieldErrors};
use crate::extract::{api, id};
use crate::media;
use crate::route::route;

const LIST: &str = "/admin/categories/";

/// The routes of this file.
pub(super) fn routes() -> Router {
    Router::with_path("categories")
        .get(route!(list(depot)))
        .push(Router::with_path("new").get(route!(show_new(depot))).post(route!(create(depot))))
        .push(
            Router::with_path("{category}")
                .get(route!(show(req, depot)))
                .post(route!(save(req, depot)))
                .push(
                    Router::with_path("delete")
                        .get(route!(confirm_delete(req, depot)))
                        .post(route!(delete(req, depot))),
                ),
        )
}

#[derive(Template)]
#[template(path = "admin/categories.html")]
struct ListPage {
    layout: Layout,
    categories: Arc<Vec<Category>>,
}

async fn list(depot: &mut Depot) -> Result<Page, ApiError> {
    let api = api(depot);
    Page::ok(&ListPage {
        layout: Layout::new(staff(depot), "categories", "Categories"),
        categories: api.cache.categories(&api.db, true).await?,
    })
}

#[derive(Template)]
#[template(path = "admin/category.html")]
struct CategoryPage {
    layout: Layout,
    sheet: Sheet,
    category: Option<Category>,
    picture: Option<String>,
    seen: String,
    changes: Vec<Entry>,
}

async fn page(
    depot: &Depot,
    status: StatusCode,
    category: Option<Category>,
    sheet: Option<Sheet>,
) -> Result<Page, ApiError> {
    let title = category.as_ref().map_or_else(|| "New category".to_owned(), |category| category.name.clone());
    let changes = match &category {
        Some(category) => history::of(api(depot), Kind::Category, category.id.0).await?,
        None => Vec::new(),
    };
    let page = CategoryPage {
        layout: Layout::new(staff(depot), "categories", title),
        sheet: sheet.unwrap_or_else(|| Sheet::of(form_of(category.as_ref()))),
        seen: category.as_ref().map(|category| category.updated_at.to_string()).unwrap_or_default(),
        changes,
        picture: category.as_ref().and_then(|category| category.image.as_deref()).map(image),
        category,
    };
    Page::html(status, &page)
}

/// A category's form as it is shown first.
fn form_of(category: Option<&Category>) -> Form {
    let mut values = Vec::new();
    if let Some(category) = category {
        values.push(("name", category.name.clone()));
        values.push(("description", category.description.clone()));
    }
    if category.is_none_or(|category| category.is_active) {
        values.push(("is_active", "true".to_owned()));
    }
    Form::of(values)
}

async fn find(req: &Request, api: &Api) -> Result<Category, ApiError> {
    let id: CategoryId = id(req, "category")?;
    categories::find(&api.cache.categories(&api.db, true).await?, id).cloned()
}

async fn show_new(depot: &mut Depot) -> Result<Page, ApiError> {
    page(depot, StatusCode::OK, None, None).await
}

async fn show(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let category = find(req, api(depot)).await?;
    page(depot, StatusCode::OK, Some(category), None).await
}

/// Reads the fields of the form; a box that is not ticked is sent as nothing at all.
async fn read(
    api: &Api,
    form: &Form,
) -> Result<Result<(CategoryChange, media::Change), FieldErrors>, ApiError> {
    let mut fields = form.fields();
    let mut change = read_fields(&mut fields, true);
    change.is_active = Some(form.is_ticked("is_active"));
    let image = form.image(api, &mut fields).await?;
    let errors = fields.into_errors();
    Ok(if errors.is_empty() { Ok((change, image)) } else { Err(errors) })
}

async fn create(depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, staff, form) = (api(depot), staff(depot), form(depot));
    let refused = |errors| {
        let sheet = Sheet::refused(form.without_files(), errors);
        page(depot, StatusCode::BAD_REQUEST, None, Some(sheet))
    };
    let (read, image) = match read(api, form).await? {
        Ok(read) => read,
        Err(errors) => return refused(errors).await,
    };
    let new = as_new(read).ok_or_else(ApiError::internal)?;
    let author = staff.author();
    let named = |image: Option<_>| {
        let new = NewCategory { image: image.flatten(), ..new };
        write(api, |db| async move { catalogue::create_category(&db, &new, Some(&author)).await })
    };
    match api.media.keep(image, named).await {
        Ok(category) => {
            let flash = Flash::done(format!("{} was created.", category.name));
            Ok(Page::see_with(LIST, staff, &flash))
        }
        Err(error) => refused(error.into_fields()?).await,
    }
}

async fn save(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, staff, form) = (api(depot), staff(depot), form(depot));
    let category = find(req, api).await?;
    let again = |status, category, errors| {
        page(depot, status, Some(category), Some(Sheet::refused(form.without_files(), errors)))
    };
    let (change, image) = match read(api, form).await? {
        Ok(read) => read,
        Err(errors) => return again(StatusCode::BAD_REQUEST, category, errors).await,
    };
    let seen = form.seen().ok_or_else(Form::unseen)?;
    let (author, id) = (staff.author(), category.id);
    let named = |image| {
        let change = CategoryChange { image, ..change };
        write(api, move |db| async move {
            catalogue::change_category(&db, id, &change, Some(seen), Some(&author)).await
        })
    };
    match api.media.keep(image, named).await {
        Ok(category) => {
            let flash = Flash::done(format!("{} was saved.", category.name));
            Ok(Page::see_with(&format!("{LIST}{}/", category.id), staff, &flash))
        }
        Err(error) if error.status() == StatusCode::PRECONDITION_FAILED => {
            let message = "Nothing was saved: somebody changed this category while the form was open. What you typed is \
                           still here; save again to put it in the place of what is there now.";
            let now = find(req, api).await?;
            again(StatusCode::CONFLICT, now, FieldErrors::of_all(message)).await
        }
        Err(error) => again(StatusCode::BAD_REQUEST, category, error.into_fields()?).await,
    }
}

#[derive(Template)]
#[template(path = "admin/category_delete.html")]
struct DeletePage {
    layout: Layout,
    category: Category,
}

async fn confirm_delete(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let category = find(req, api(depot)).await?;
    let layout = Layout::new(staff(depot), "categories", format!("Delete {}?", category.name));
    Page::ok(&DeletePage { layout, category })
}

async fn delete(req: &mut Request, depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, staff) = (api(depot), staff(depot));
    let category = find(req, api).await?;
    let (db, author, id) = (api.db.clone(), staff.author(), category.id);
    let delete = async move { catalogue::delete_category(&db, id, Some(&author)).await };
    let (path, flash) = match api.handles.invalidator.write(vec![Key::Categories], delete).await? {
        Ok(()) => {
            api.media.sweep_soon();
            (LIST.to_owned(), Flash::done(format!("{} was deleted.", category.name)))
        }
        Err(CategoryRefusal::NotEmpty) => {
            let why = format!("{} was not deleted: it has products by now.", category.name);
            (format!("{LIST}{id}/delete/"), Flash::warning(why))
        }
        Err(why) => return Err(refusal(why)),
    };
    Ok(Page::see_with(&path, staff, &flash))
}
