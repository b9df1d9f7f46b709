//! Routes that can be counted: axum's router does not tell what it serves, and the API's document
//! and the test of foreign ids must not miss a route. Tables read as axum's do.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::MethodRouter;

use crate::app::App;

/// An address, with `{names}` for its parameters, and a method that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub method: Method,
    pub path: &'static str,
}

/// Routes and what answers them.
#[derive(Default)]
pub struct Table {
    router: Router<App>,
    routes: Vec<Route>,
}

impl Table {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an address and what it does.
    pub fn route(mut self, path: &'static str, methods: Methods) -> Self {
        self.routes.extend(methods.taken.into_iter().map(|method| Route { method, path }));
        self.router = self.router.route(path, methods.router);
        self
    }

    /// Every route, in the table's order.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    pub fn into_router(self) -> Router<App> {
        self.router
    }
}

/// The methods of one address.
#[derive(Default)]
pub struct Methods {
    router: MethodRouter<App>,
    taken: Vec<Method>,
}

macro_rules! methods {
    ($($name:ident $method:ident),*) => {
        $(
            /// What answers requests of this method.
            pub fn $name<H: Handler<T, App>, T: 'static>(handler: H) -> Methods {
                Methods::default().$name(handler)
            }
        )*

        impl Methods {
            $(
                pub fn $name<H: Handler<T, App>, T: 'static>(mut self, handler: H) -> Self {
                    self.router = self.router.$name(handler);
                    self.taken.push(Method::$method);
                    self
                }
            )*
        }
    };
}

methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE);
