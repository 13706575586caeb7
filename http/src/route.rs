//! Where an `async fn` becomes a route: `.get(route!(show(req, depot)))`.
//!
//! salvo's attribute `handler` does it too, but makes of each function a type with bounds of its own, and rustc
//! then proves for each of them anew that all below it, down to the database's driver, may move between threads: that
//! took three quarters of this crate's compile time. Here the proof is made once. The attribute is for functions that
//! do not wait.

use std::pin::Pin;

use salvo::{Depot, FlowCtrl, Handler, Request, Response};

type Answering<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A function that answers requests.
pub(crate) struct Route(
    pub(crate) for<'a> fn(&'a mut Request, &'a mut Depot, &'a mut Response) -> Answering<'a>,
);

impl Handler for Route {
    // What `async_trait` makes of the trait's method, without a second box.
    fn handle<'route, 'req, 'depot, 'res, 'ctrl, 'all>(
        &'route self,
        req: &'req mut Request,
        depot: &'depot mut Depot,
        res: &'res mut Response,
        _ctrl: &'ctrl mut FlowCtrl,
    ) -> Answering<'all>
    where
        'route: 'all,
        'req: 'all,
        'depot: 'all,
        'res: 'all,
        'ctrl: 'all,
        Self: 'all,
    {
        (self.0)(req, depot, res)
    }
}

/// The [`Route`] of an `async fn` whose parameters are named: some of `req`, `depot` and `res`, in this order.
macro_rules! route {
    ($function:path, $req:ident, $depot:ident, $res:ident: $($given:ident),*) => {
        $crate::route::Route(|$req, $depot, $res| {
            Box::pin(async move {
                let answer = $function($($given),*).await;
                salvo::Writer::write(answer, $req, $depot, $res).await;
            })
        })
    };
    ($($function:ident)::+ (depot)) => { route!($($function)::+, req, depot, res: depot) };
    ($($function:ident)::+ (depot, res)) => { route!($($function)::+, req, depot, res: depot, res) };
    ($($function:ident)::+ (req, depot)) => { route!($($function)::+, req, depot, res: req, depot) };
    ($($function:ident)::+ (req, depot, res)) => { route!($($function)::+, req, depot, res: req, depot, res) };
}

pub(crate) use route;
