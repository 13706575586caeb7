//! What the document says of products.

use serde_json::{Value, json};
use souk_store::model::MAX_STOCK;

use super::{MAX_DESCRIPTION, MAX_NAME, MAX_SKU};
use crate::openapi::{Access, Operation, body, flag, name, object, ordering, schema, text};

const TAG: &str = "Products";

/// The operations of `routes`, in its order.
pub(crate) fn operations() -> Vec<Operation> {
    let one = example();
    let list = |path, summary| {
        filters(Operation::get(path, Access::Viewer, summary).tag(TAG))
            .page_of("Product", &example())
            .conditional()
    };
    let answers =
        |operation: Operation, status, what| operation.answers(status, what, schema("Product"), example());
    let write = |operation: Operation, read: &str| {
        operation.tag(TAG).takes_file(read, &format!("{read}Form"), &wish()).with_if_match()
    };
    let product = "/api/products/{id}/";
    vec![
        list("/api/products/", "List products").says("What is not active is seen by admins alone."),
        answers(
            Operation::post("/api/products/", Access::Admin, "Create a product").tag(TAG).takes_file(
                "NewProduct",
                "NewProductForm",
                &wish(),
            ),
            201,
            "The product",
        )
        .with_header(201, "ETag", "What tells this version from others."),
        list("/api/products/featured/", "List featured products"),
        answers(Operation::get(product, Access::Viewer, "Show a product").tag(TAG), 200, "The product").conditional(),
        answers(write(Operation::put(product, Access::Admin, "Replace a product"), "NewProduct"), 200, "The product")
            .says("`stock` and `image` stay as they are if they are left out."),
        answers(write(Operation::patch(product, Access::Admin, "Change a product"), "ProductChange"), 200, "The product"),
        Operation::delete(product, Access::Admin, "Delete a product")
            .tag(TAG)
            .says("It leaves all carts; orders keep their own copy of its name, SKU and price.")
            .with_if_match()
            .answers_nothing(204, "It is gone"),
        answers(
            Operation::post("/api/products/{id}/stock/", Access::Admin, "Move the stock of a product")
                .tag(TAG)
                .says("`change` adds units or takes them; `stock` with `was` sets the level if it still is `was`.")
                .takes("StockMove", true, &json!({"change": -3})),
            200,
            "The product",
        )
        .error_when(
            409,
            "The level does not allow it, or is another by now: `stock` says which.",
            schema("StockConflict"),
            json!({"detail": "The stock level does not allow this.", "stock": 2}),
        ),
        Operation::get("/api/products/{id}/movements/", Access::Admin, "List the movements of a product's stock")
            .tag(TAG)
            .says("Newest first; the level is their sum, always.")
            .page_of(
                "Movement",
                &json!({"id": 7, "kind": "order", "change": -2, "level": 15, "order": 4, "created_at": one["created_at"]}),
            ),
    ]
}

impl Operation {
    /// A write that can be bound to a version.
    fn with_if_match(self) -> Self {
        let description = "The `ETag` that you have: if the product changed since, nothing is done.";
        let operation = self.header("If-Match", description, json!({"type": "string"}));
        operation.error(412)
    }
}

/// The filters and orders of every list of products.
pub(crate) fn filters(operation: Operation) -> Operation {
    let price = json!({"type": "number", "minimum": 0, "maximum": 99_999_999.99});
    operation
        .query("category", "Only of this category.", schema("Id"))
        .query("price_min", "At least this price.", price.clone())
        .query("price_max", "At most this price.", price)
        .query("in_stock", "Only what there is, or is not.", flag())
        .query("featured", "Only what is featured, or is not.", flag())
        .query("search", "Words that occur in the name, the description or the category's name.", text(255))
        .query(
            "ordering",
            "By these terms, each with an optional `-`, separated by commas. Otherwise newest first.",
            ordering(&["price", "created_at", "name"]),
        )
}

/// A product as it is shown.
pub(crate) fn example() -> Value {
    json!({
        "id": 12, "name": "Walnut lamp", "description": "Warm light.", "price": "89.90", "stock": 17, "in_stock": true,
        "category": 3, "category_name": "Lights", "sku": "SKU-000012", "featured": true, "is_active": true,
        "image": "http://127.0.0.1:8000/media/4f/0c6f2d8b1e5a49f3a7c2b1d0e9f8a7.jpg",
        "created_at": "2026-11-22T13:00:00.123456Z", "updated_at": "2026-11-22T13:00:00.123456Z",
    })
}

fn wish() -> Value {
    json!({"name": "Walnut lamp", "price": "89.90", "category": 3, "stock": 20, "description": "Warm light."})
}

fn fields(image: &str) -> Value {
    json!({
        "name": name(MAX_NAME),
        "description": text(MAX_DESCRIPTION),
        "price": schema("Price"),
        "stock": {"type": "integer", "minimum": 0, "maximum": MAX_STOCK},
        "category": schema("Id"),
        "sku": name(MAX_SKU),
        "featured": flag(),
        "is_active": flag(),
        "image": schema(image),
    })
}

/// The schemas of this file.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    const REQUIRED: &[&str] = &["name", "price", "category"];
    let level = json!({"type": "integer", "minimum": 0, "maximum": MAX_STOCK});
    let change = json!({"type": "integer", "minimum": -MAX_STOCK, "maximum": MAX_STOCK});
    vec![
        (
            "Product",
            object(json!({
                "id": schema("Id"),
                "name": {"type": "string"},
                "description": {"type": "string"},
                "price": schema("Money"),
                "stock": level,
                "in_stock": flag(),
                "category": schema("Id"),
                "category_name": {"type": "string"},
                "sku": {"type": "string"},
                "featured": flag(),
                "is_active": flag(),
                "image": schema("Image"),
                "created_at": schema("Time"),
                "updated_at": schema("Time"),
            })),
        ),
        ("NewProduct", body(REQUIRED, fields("NoImage"))),
        ("NewProductForm", body(REQUIRED, fields("File"))),
        ("ProductChange", body(&[], fields("NoImage"))),
        ("ProductChangeForm", body(&[], fields("File"))),
        (
            "StockMove",
            json!({"anyOf": [
                body(&["change"], json!({"change": change})),
                body(&["stock", "was"], json!({"stock": level, "was": level})),
            ]}),
        ),
        ("StockConflict", object(json!({"detail": {"type": "string"}, "stock": level}))),
        (
            "Movement",
            object(json!({
                "id": schema("Id"),
                "kind": {"enum": ["initial", "order", "cancel", "change", "set"]},
                "change": {"type": "integer"},
                "level": level,
                "order": {"anyOf": [schema("Id"), {"type": "null"}]},
                "created_at": schema("Time"),
            })),
        ),
    ]
}
