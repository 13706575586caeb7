//! Categories: lists, one by one, their products, and what admins do to them (contract: Catalogue).
//!
//! There are few of them and they change seldom: the cache holds all in one piece. Writes go straight to the store;
//! then everything that shows a category's name is forgotten, and only then is there an answer.

mod operations;

use std::ops::ControlFlow;
use std::sync::Arc;

use salvo::http::Method;
use salvo::{Depot, Request, Router};
use serde::Serialize;
use souk_store::cache::Key;
use souk_store::catalogue::{self, CategoryChange, CategoryRefusal, NewCategory};
use souk_store::model::{Category, CategoryId, Timestamp};
use souk_store::{Db, StoreError};

pub(crate) use self::operations::{operations, schemas};
use crate::Api;
use crate::catalogue::{MAX_DESCRIPTION, list_within, sees_inactive};
use crate::error::ApiError;
use crate::extract::{self, api, base_url, media_url, require_admin};
use crate::fields::Fields;
use crate::page::PageQuery;
use crate::rendered::{Answer, Answers, Moment, Tag};
use crate::reply::Reply;
use crate::route::route;

const MAX_NAME: usize = 100;

/// The routes of this file, below `/api/`.
pub(crate) fn routes() -> Router {
    Router::with_path("categories").get(route!(list(req, depot))).post(route!(create(req, depot))).push(
        Router::with_path("{category}")
            .get(route!(show(req, depot)))
            .put(route!(update(req, depot)))
            .patch(route!(update(req, depot)))
            .delete(route!(delete(req, depot)))
            .push(Router::with_path("products").get(route!(products(req, depot)))),
    )
}

#[derive(Serialize)]
struct CategoryView<'a> {
    id: CategoryId,
    name: &'a str,
    description: &'a str,
    image: Option<String>,
    is_active: bool,
    product_count: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> CategoryView<'a> {
    fn new(base: &str, category: &'a Category) -> Self {
        Self {
            id: category.id,
            name: &category.name,
            description: &category.description,
            image: media_url(base, category.image.as_deref()),
            is_active: category.is_active,
            product_count: category.product_count,
            created_at: category.created_at,
            updated_at: category.updated_at,
        }
    }
}

/// The one of these that has this id; 404 if none has.
pub(crate) fn find(categories: &[Category], id: CategoryId) -> Result<&Category, ApiError> {
    categories.iter().find(|category| category.id == id).ok_or_else(ApiError::not_found)
}

/// What a read works with if no answer to it is ready.
struct Reading {
    key: String,
    moment: Moment,
    /// Those that the caller may see.
    categories: Arc<Vec<Category>>,
}

impl Reading {
    /// The ready answer, or what it takes to make one.
    async fn begin(req: &Request, api: &Api) -> Result<ControlFlow<Reply, Self>, ApiError> {
        let is_admin = sees_inactive(req, api).await?;
        let levels = api.handles.ledger.levels();
        let key = Answers::key(req, is_admin);
        if let Some(answer) = api.answers.get(&key, &api.cache, levels) {
            return Ok(ControlFlow::Break(answer.reply(req)));
        }
        let moment = Moment::before(Key::Categories, &api.cache, levels);
        let categories = api.cache.categories(&api.db, is_admin).await?;
        Ok(ControlFlow::Continue(Self { key, moment, categories }))
    }

    fn end(self, req: &Request, api: &Api, value: &impl Serialize) -> Result<Reply, ApiError> {
        let answer = Answer::new(self.moment, value, Vec::new(), Tag::OfContent)?;
        api.answers.put(req, self.key, &answer, &["page", "page_size"]);
        Ok(answer.reply(req))
    }
}

async fn list(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let reading = match Reading::begin(req, api).await? {
        ControlFlow::Break(reply) => return Ok(reply),
        ControlFlow::Continue(reading) => reading,
    };
    let page = PageQuery::of(req)?;
    let base = base_url(req);
    let all = Arc::clone(&reading.categories);
    let before = usize::try_from(page.offset()).unwrap_or(usize::MAX);
    let most = usize::try_from(page.limit()).unwrap_or_default();
    let views = all.iter().skip(before).take(most).map(|category| CategoryView::new(&base, category));
    let count = i64::try_from(all.len()).unwrap_or(i64::MAX);
    reading.end(req, api, &page.page(req, count, views.collect())?)
}

async fn show(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let reading = match Reading::begin(req, api).await? {
        ControlFlow::Break(reply) => return Ok(reply),
        ControlFlow::Continue(reading) => reading,
    };
    let all = Arc::clone(&reading.categories);
    let category = find(&all, extract::id(req, "category")?)?;
    reading.end(req, api, &CategoryView::new(&base_url(req), category))
}

async fn products(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let id: CategoryId = extract::id(req, "category")?;
    list_within(req, api(depot), |filter, categories| {
        find(categories, id)?;
        filter.nothing |= filter.category.is_some_and(|category| category != id);
        filter.category = Some(id);
        Ok(())
    })
    .await
}

/// Reads the fields of a category but its image; those of a creation or a PUT must be complete.
pub(crate) fn read_fields(fields: &mut Fields, complete: bool) -> CategoryChange {
    CategoryChange {
        name: fields.text("name").max(MAX_NAME).required_if(complete),
        description: fields.text("description").blank().max(MAX_DESCRIPTION).optional(),
        is_active: fields.boolean("is_active").optional(),
        image: None,
    }
}

/// A new category of fields that were read complete, without an image; none if its name is missing.
pub(crate) fn as_new(read: CategoryChange) -> Option<NewCategory> {
    Some(NewCategory {
        name: read.name?,
        description: read.description.unwrap_or_default(),
        is_active: read.is_active.unwrap_or(true),
        image: None,
    })
}

async fn create(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_admin(req, api).await?;
    let mut fields = extract::form(req, api, &caller).await?;
    let read = read_fields(&mut fields, true);
    let image = api.media.read(&mut fields, "image").await?;
    let new = fields.finish_with(as_new(read))?;
    let named = |image: Option<_>| {
        let new = NewCategory { image: image.flatten(), ..new };
        write(api, |db| async move { catalogue::create_category(&db, &new, None).await })
    };
    let category = api.media.keep(image, named).await?;
    Reply::created(&CategoryView::new(&base_url(req), &category))
}

async fn update(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    let caller = require_admin(req, api).await?;
    let id: CategoryId = extract::id(req, "category")?;
    find(&api.cache.categories(&api.db, true).await?, id)?;
    let mut fields = extract::form(req, api, &caller).await?;
    let change = read_fields(&mut fields, req.method() == Method::PUT);
    let image = api.media.read(&mut fields, "image").await?;
    fields.finish()?;
    let named = |image| {
        let change = CategoryChange { image, ..change };
        write(api, move |db| async move { catalogue::change_category(&db, id, &change, None, None).await })
    };
    let category = api.media.keep(image, named).await?;
    Reply::ok(&CategoryView::new(&base_url(req), &category))
}

async fn delete(req: &mut Request, depot: &mut Depot) -> Result<Reply, ApiError> {
    let api = api(depot);
    require_admin(req, api).await?;
    let id: CategoryId = extract::id(req, "category")?;
    write(api, |db| async move { catalogue::delete_category(&db, id, None).await }).await?;
    api.media.sweep_soon();
    Ok(Reply::no_content())
}

/// Does a write to its end, with the caches forgetting what it changed before anybody hears of it.
pub(crate) async fn write<T: Send + 'static, W>(api: &Api, work: impl FnOnce(Db) -> W) -> Result<T, ApiError>
where
    W: Future<Output = Result<Result<T, CategoryRefusal>, StoreError>> + Send + 'static,
{
    let outcome = api.handles.invalidator.write(vec![Key::Categories], work(api.db.clone())).await;
    outcome?.map_err(refusal)
}

pub(crate) fn refusal(refusal: CategoryRefusal) -> ApiError {
    match refusal {
        CategoryRefusal::NotFound => ApiError::not_found(),
        CategoryRefusal::NameTaken => ApiError::field("name", "category with this name already exists."),
        CategoryRefusal::Changed => ApiError::precondition_failed(),
        CategoryRefusal::NotEmpty => ApiError::conflict("This category still has products."),
    }
}
