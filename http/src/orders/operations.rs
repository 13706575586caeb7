//! What the document says of orders.

use serde_json::{Value, json};

use super::{MAX_PHONE, MAX_TEXT};
use crate::openapi::{Access, Operation, body, object, ordering, schema, text};

const TAG: &str = "Orders";

const STATUSES: [&str; 4] = ["pending", "shipped", "delivered", "cancelled"];

/// The operations of `routes` and `own_routes`, in their order.
pub(crate) fn operations() -> Vec<Operation> {
    let list = |path, summary| {
        Operation::get(path, Access::User, summary)
            .tag(TAG)
            .query("status", "Only of this status.", json!({"enum": STATUSES}))
            .query(
                "ordering",
                "By these terms, each with an optional `-`, separated by commas. Otherwise newest first.",
                ordering(&["created_at", "total_price"]),
            )
            .page_of("Order", &example())
    };
    let answers = |operation: Operation, status| {
        operation.tag(TAG).answers(status, "The order", schema("Order"), example())
    };
    let key = "Makes a repeated request safe: for 24 hours the same key gives the first answer again, with \
               `Idempotent-Replayed: true`; with another body it is a 422.";
    vec![
        list("/api/orders/", "List orders")
            .says("Your own; for an admin everybody's.")
            .query("user", "For admins: only of this user.", schema("Id")),
        answers(
            Operation::post("/api/orders/", Access::User, "Order what is in your cart")
                .says(
                    "At today's prices: stock is taken and the cart emptied, all or nothing. A 201 means that the order \
                     is on disk. An empty cart is a 400.",
                )
                .header(
                    "Idempotency-Key",
                    key,
                    json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]{1,255}$"}),
                )
                .takes("Checkout", false, &json!({"shipping_address": "1 Mill Lane", "notes": "Ring twice."})),
            201,
        )
        .with_header(201, "Idempotent-Replayed", "`true` if this is the first answer again.")
        .error_when(
            409,
            "There is too little stock; the cart is as it was.",
            schema("OutOfStock"),
            json!({"detail": "Insufficient stock.", "items": [{"product": 12, "requested": 2, "available": 1}]}),
        )
        .error(422),
        answers(Operation::get("/api/orders/{id}/", Access::User, "Show an order"), 200)
            .says("Your own; any for an admin."),
        answers(
            Operation::patch("/api/orders/{id}/status/", Access::Admin, "Move an order on")
                .says(
                    "`pending → shipped → delivered`, and `pending → cancelled`, which puts stock back. Another step is a \
                     400; the present status again changes nothing.",
                )
                .takes("StatusStep", true, &json!({"status": "shipped"})),
            200,
        )
        .error(409),
        answers(Operation::post("/api/orders/{id}/cancel/", Access::User, "Cancel an order"), 200)
            .says("By its owner or an admin, as long as it is pending.")
            .error(400)
            .error(409),
        list("/auth/api/orders/", "List your own orders"),
    ]
}

fn example() -> Value {
    let at = "2026-11-22T13:00:00.123456Z";
    json!({
        "id": 4, "user": 2, "status": "pending",
        "items": [{"id": 9, "product": 12, "product_name": "Walnut lamp", "sku": "SKU-000012", "price": "89.90",
            "quantity": 2, "subtotal": "179.80"}],
        "total_items": 2, "total_price": "179.80", "shipping_address": "1 Mill Lane", "phone": "", "notes": "Ring twice.",
        "status_history": [{"status": "pending", "at": at}], "created_at": at, "updated_at": at,
    })
}

/// The schemas of this file.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    let quantity = json!({"type": "integer", "minimum": 1});
    vec![
        ("OrderStatus", json!({"enum": STATUSES})),
        (
            "Order",
            object(json!({
                "id": schema("Id"),
                "user": schema("Id"),
                "status": schema("OrderStatus"),
                "items": {"type": "array", "minItems": 1, "items": object(json!({
                    "id": schema("Id"),
                    "product": {"anyOf": [schema("Id"), {"type": "null"}]},
                    "product_name": {"type": "string"},
                    "sku": {"type": "string"},
                    "price": schema("Money"),
                    "quantity": quantity,
                    "subtotal": schema("Money"),
                }))},
                "total_items": quantity,
                "total_price": schema("Money"),
                "shipping_address": {"type": "string"},
                "phone": {"type": "string"},
                "notes": {"type": "string"},
                "status_history": {"type": "array", "minItems": 1, "items": object(json!({
                    "status": schema("OrderStatus"),
                    "at": schema("Time"),
                }))},
                "created_at": schema("Time"),
                "updated_at": schema("Time"),
            })),
        ),
        (
            "Checkout",
            body(
                &[],
                json!({"shipping_address": text(MAX_TEXT), "phone": text(MAX_PHONE), "notes": text(MAX_TEXT)}),
            ),
        ),
        ("StatusStep", body(&["status"], json!({"status": schema("OrderStatus")}))),
        (
            "OutOfStock",
            object(json!({
                "detail": {"type": "string"},
                "items": {"type": "array", "minItems": 1, "items": object(json!({
                    "product": schema("Id"),
                    "requested": quantity,
                    "available": {"type": "integer", "minimum": 0},
                }))},
            })),
        ),
    ]
}
