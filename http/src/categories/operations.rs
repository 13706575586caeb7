//! What the document says of categories.

use serde_json::{Value, json};

use super::MAX_NAME;
use crate::catalogue::MAX_DESCRIPTION;
use crate::catalogue::operations as products;
use crate::openapi::{Access, Operation, body, flag, name, object, schema, text};

const TAG: &str = "Categories";

/// The operations of `routes`, in its order.
pub(crate) fn operations() -> Vec<Operation> {
    let wish = json!({"name": "Lights", "description": "Lamps of all kinds."});
    let category = "/api/categories/{id}/";
    let answers = |operation: Operation, status| {
        operation.tag(TAG).answers(status, "The category", schema("Category"), example())
    };
    let write = |operation: Operation, read: &str| {
        answers(operation.takes_file(read, &format!("{read}Form"), &wish), 200)
    };
    vec![
        Operation::get("/api/categories/", Access::Viewer, "List categories")
            .tag(TAG)
            .says("By name. What is not active is seen by admins alone.")
            .page_of("Category", &example())
            .conditional(),
        answers(
            Operation::post("/api/categories/", Access::Admin, "Create a category").takes_file(
                "NewCategory",
                "NewCategoryForm",
                &wish,
            ),
            201,
        ),
        answers(Operation::get(category, Access::Viewer, "Show a category"), 200).conditional(),
        write(Operation::put(category, Access::Admin, "Replace a category"), "NewCategory"),
        write(Operation::patch(category, Access::Admin, "Change a category"), "CategoryChange"),
        Operation::delete(category, Access::Admin, "Delete a category")
            .tag(TAG)
            .answers_nothing(204, "It is gone")
            .error(409),
        products::filters(
            Operation::get(
                "/api/categories/{id}/products/",
                Access::Viewer,
                "List the products of a category",
            )
            .tag(TAG),
        )
        .page_of("Product", &products::example())
        .conditional(),
    ]
}

fn example() -> Value {
    json!({
        "id": 3, "name": "Lights", "description": "Lamps of all kinds.", "image": null, "is_active": true,
        "product_count": 48, "created_at": "2026-11-22T13:00:00.123456Z", "updated_at": "2026-11-22T13:00:00.123456Z",
    })
}

fn fields(image: &str) -> Value {
    json!({
        "name": name(MAX_NAME),
        "description": text(MAX_DESCRIPTION),
        "is_active": flag(),
        "image": schema(image),
    })
}

/// The schemas of this file.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        (
            "Category",
            object(json!({
                "id": schema("Id"),
                "name": {"type": "string"},
                "description": {"type": "string"},
                "image": schema("Image"),
                "is_active": flag(),
                "product_count": {"type": "integer", "minimum": 0},
                "created_at": schema("Time"),
                "updated_at": schema("Time"),
            })),
        ),
        ("NewCategory", body(&["name"], fields("NoImage"))),
        ("NewCategoryForm", body(&["name"], fields("File"))),
        ("CategoryChange", body(&[], fields("NoImage"))),
        ("CategoryChangeForm", body(&[], fields("File"))),
    ]
}
