//! What the document says of notifications and their WebSocket.

use serde_json::{Value, json};

use crate::openapi::{Access, Operation, body, flag, object, schema};

const TAG: &str = "Notifications";

/// The operations of `routes` and `socket_route`, in their order.
pub(crate) fn operations() -> Vec<Operation> {
    let event = json!({
        "type": "order_status_update", "id": 2, "order_id": 4, "status": "shipped", "previous_status": "pending",
        "message": "Order 4 is now shipped.", "created_at": "2026-11-22T13:00:00.123456Z", "read": false,
    });
    let number = json!({"type": "integer", "minimum": 0});
    vec![
        Operation::get("/api/notifications/", Access::User, "List your notifications")
            .tag(TAG)
            .says("Newest first.")
            .query("unread", "Only what is not read, or is.", flag())
            .page_of("Event", &event),
        Operation::post("/api/notifications/read/", Access::User, "Mark notifications as read")
            .tag(TAG)
            .takes("ReadMark", true, &json!({"up_to": 2}))
            .answers_nothing(204, "They are read"),
        Operation::get("/ws/notifications/{user_id}/", Access::User, "Open a WebSocket")
            .tag(TAG)
            .says(
                "Your own notifications as they happen; an admin may watch anybody's. The access token comes as \
                 `Authorization: Bearer`, as the subprotocols `bearer, <token>`, or as a `ticket`. One JSON object a \
                 message, as in the list, each with a rising `id`; `{\"type\": \"ping\"}` is answered.",
            )
            .query("ticket", "From `ws-ticket/`: opens one socket, once.", json!({"type": "string"}))
            .query("last_event_id", "Every later event comes first, then what happens.", number)
            .answers_nothing(101, "It is a WebSocket now")
            .error(403)
            .error(426),
    ]
}

/// The schemas of this file.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    let mut event = object(json!({
        "type": {"enum": ["order_created", "order_status_update"]},
        "id": schema("Id"),
        "order_id": schema("Id"),
        "status": schema("OrderStatus"),
        "created_at": schema("Time"),
        "read": flag(),
    }));
    for (name, member) in [
        ("previous_status", schema("OrderStatus")),
        ("total_price", schema("Money")),
        ("message", json!({"type": "string"})),
    ] {
        event["properties"][name] = member;
    }
    let up_to = json!({"type": "integer", "format": "int64", "minimum": 0, "maximum": i64::MAX});
    vec![("Event", event), ("ReadMark", body(&["up_to"], json!({"up_to": up_to})))]
}
