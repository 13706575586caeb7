//! What the document says of carts.

use serde_json::{Value, json};
use souk_store::model::{MAX_CART_LINES, MAX_QUANTITY};

use crate::openapi::{Access, Operation, body, flag, object, schema};

const TAG: &str = "Cart";

/// The operations of `routes`, in its order.
pub(crate) fn operations() -> Vec<Operation> {
    let item = "/api/cart/items/{id}/";
    let answers = |operation: Operation, status| {
        operation.tag(TAG).answers(status, "The line of the cart", schema("CartItem"), example())
    };
    let quantity = json!({"quantity": 2});
    vec![
        Operation::get("/api/cart/", Access::User, "Show your cart").tag(TAG).answers(
            200,
            "The cart",
            schema("Cart"),
            json!({"id": 5, "items": [example()], "total_items": 2, "total_price": "179.80",
                "updated_at": "2026-11-22T13:00:00.123456Z"}),
        ),
        Operation::delete("/api/cart/", Access::User, "Empty your cart")
            .tag(TAG)
            .answers_nothing(204, "It is empty"),
        answers(
            Operation::post("/api/cart/items/", Access::User, "Put a product into your cart")
                .says(
                    "The same product again adds to its line. More than is in stock is a 400 on `quantity`.",
                )
                .takes("NewCartItem", true, &json!({"product_id": 12, "quantity": 2})),
            201,
        ),
        answers(
            Operation::put(item, Access::User, "Set the quantity of a line")
                .takes("Quantity", true, &quantity),
            200,
        ),
        answers(
            Operation::patch(item, Access::User, "Change the quantity of a line")
                .takes("Quantity", true, &quantity),
            200,
        ),
        Operation::delete(item, Access::User, "Take a line out of your cart")
            .tag(TAG)
            .answers_nothing(204, "It is gone"),
    ]
}

fn example() -> Value {
    json!({
        "id": 31,
        "product": {"id": 12, "name": "Walnut lamp", "price": "89.90", "sku": "SKU-000012", "image": null, "stock": 17,
            "in_stock": true},
        "quantity": 2,
        "subtotal": "179.80",
    })
}

/// The schemas of this file.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    let quantity = json!({"type": "integer", "minimum": 1, "maximum": MAX_QUANTITY});
    vec![
        (
            "Cart",
            object(json!({
                "id": schema("Id"),
                "items": {"type": "array", "items": schema("CartItem"), "maxItems": MAX_CART_LINES},
                "total_items": {"type": "integer", "minimum": 0},
                "total_price": schema("Money"),
                "updated_at": schema("Time"),
            })),
        ),
        (
            "CartItem",
            object(json!({
                "id": schema("Id"),
                "product": object(json!({
                    "id": schema("Id"),
                    "name": {"type": "string"},
                    "price": schema("Money"),
                    "sku": {"type": "string"},
                    "image": schema("Image"),
                    "stock": {"type": "integer", "minimum": 0},
                    "in_stock": flag(),
                })),
                "quantity": quantity,
                "subtotal": schema("Money"),
            })),
        ),
        ("NewCartItem", body(&["product_id"], json!({"product_id": schema("Id"), "quantity": quantity}))),
        ("Quantity", body(&["quantity"], json!({"quantity": quantity}))),
    ]
}
