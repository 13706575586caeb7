//! The rival of a checkout through HTTP: `POST /by-hand/orders/`, which places an order as it is usually done.
//!
//! It is served by the same process, behind the same outer hoops. It reads the same token, takes the order ready-made from
//! the body (a cart that it would have to read first is spared it), and places it in one transaction with the usual
//! prepared statements, from the handler itself: no actor, no batch.

use std::sync::Arc;

use salvo::http::StatusCode;
use salvo::routing::FlowCtrl;
use salvo::{Depot, Handler, Request, Response, Router, async_trait};
use serde::{Deserialize, Serialize};
use serde_json::json;
use souk_http::tokens::Tokens;
use souk_store::Db;
use souk_store::ledger::PlaceOrder;
use souk_store::model::{CartId, ProductId, Timestamp, UserId};
use souk_store::testing::load::place_alone;

/// What the body says.
#[derive(Serialize, Deserialize)]
pub(crate) struct ReadyMade {
    cart_id: i64,
    cart_version: i64,
    lines: Vec<(i64, i64)>,
    shipping_address: String,
    phone: String,
}

impl From<&PlaceOrder> for ReadyMade {
    fn from(order: &PlaceOrder) -> Self {
        Self {
            cart_id: order.cart_id.0,
            cart_version: order.cart_version,
            lines: order.lines.iter().map(|(product, quantity)| (product.0, *quantity)).collect(),
            shipping_address: order.shipping_address.clone(),
            phone: order.phone.clone(),
        }
    }
}

impl ReadyMade {
    fn order_of(self, user_id: UserId) -> PlaceOrder {
        PlaceOrder {
            user_id,
            cart_id: CartId(self.cart_id),
            cart_version: self.cart_version,
            lines: self.lines.into_iter().map(|(product, quantity)| (ProductId(product), quantity)).collect(),
            shipping_address: self.shipping_address,
            phone: self.phone,
            notes: String::new(),
            key: None,
        }
    }
}

/// The route.
pub(crate) fn route(db: Db, tokens: Tokens) -> Router {
    Router::with_path("by-hand/orders").post(ByHand { db, tokens: Arc::new(tokens) })
}

struct ByHand {
    db: Db,
    tokens: Arc<Tokens>,
}

#[async_trait]
impl Handler for ByHand {
    async fn handle(&self, req: &mut Request, _depot: &mut Depot, res: &mut Response, _ctrl: &mut FlowCtrl) {
        res.status_code(StatusCode::BAD_REQUEST);
        let token = req.header::<String>("authorization").unwrap_or_default();
        let token = token.strip_prefix("Bearer ").unwrap_or_default();
        let Ok(access) = self.tokens.read_access(token, Timestamp::now()) else { return };
        let Ok(body) = req.payload().await else { return };
        let Ok(order) = serde_json::from_slice::<ReadyMade>(body) else { return };
        match place_alone(&self.db, &order.order_of(access.user)).await {
            Ok(Some(id)) => {
                res.status_code(StatusCode::CREATED);
                res.render(salvo::writing::Json(json!({ "id": id.0, "status": "pending" })));
            }
            Ok(None) => {
                res.status_code(StatusCode::CONFLICT);
            }
            // The client ends the scenario with this.
            Err(error) => {
                res.status_code(StatusCode::INTERNAL_SERVER_ERROR);
                res.render(salvo::writing::Text::Plain(souk_store::chain(&error)));
            }
        }
    }
}
