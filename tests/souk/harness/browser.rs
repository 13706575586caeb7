//! Somebody at a browser: keeps cookies, fills in the forms that pages show, and follows where they lead. What a page
//! says is compared as text; how it looks is for the browser tests.

use std::collections::BTreeMap;

use reqwest::Method;

use super::{Answer, Call, PASSWORD, Shop, Shopper};

pub(crate) struct Browser {
    visitor: Shopper,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    pub(crate) fn of(shop: &Shop) -> Self {
        Self { visitor: shop.anyone(), cookies: BTreeMap::new() }
    }

    /// Somebody who is signed in on the administration site.
    pub(crate) async fn of_admin(shop: &Shop) -> Self {
        let admin = shop.admin().await;
        let mut browser = Self::of(shop);
        browser.log_in(&admin.email, PASSWORD).await.is(303);
        browser
    }

    /// The same browser at another node of the shop.
    pub(crate) fn at(&self, shop: &Shop) -> Self {
        Self { visitor: shop.anyone(), cookies: self.cookies.clone() }
    }

    pub(crate) fn cookie(&self, name: &str) -> Option<&String> {
        self.cookies.get(name)
    }

    pub(crate) fn set_cookie(&mut self, name: &str, value: &str) {
        self.cookies.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let call = self.visitor.call(method, path);
        if cookies.is_empty() { call } else { call.header("cookie", &cookies.join("; ")) }
    }

    pub(crate) fn keep_cookies(&mut self, answer: &Answer) {
        for header in answer.headers.get_all("set-cookie") {
            let header = header.to_str().expect("a cookie of visible characters");
            let (name, rest) = header.split_once('=').expect("a cookie");
            let value = rest.split(';').next().unwrap_or_default();
            if header.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.set_cookie(name, value);
            }
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let answer = self.call(Method::GET, path).send().await;
        self.keep_cookies(&answer);
        answer
    }

    /// Sends a form as it is, without a token of its own.
    pub(crate) async fn send(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let body: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", super::escaped(name), super::escaped(value)))
            .collect();
        let mut call =
            self.call(Method::POST, path).body("application/x-www-form-urlencoded", body.join("&"));
        for (name, value) in headers {
            call = call.header(name, value);
        }
        let answer = call.send().await;
        self.keep_cookies(&answer);
        answer
    }

    /// Opens a page and sends its form, with the token that the page shows, as a browser would.
    pub(crate) async fn submit(&mut self, page: &str, action: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf(page).await;
        self.submit_with(&csrf, action, fields).await
    }

    pub(crate) async fn submit_with(&mut self, csrf: &str, action: &str, fields: &[(&str, &str)]) -> Answer {
        let mut all = vec![("csrf", csrf)];
        all.extend(fields);
        let origin = self.visitor.base();
        self.send(action, &all, &[("origin", &origin), ("sec-fetch-site", "same-origin")]).await
    }

    /// The token of the forms on a page.
    pub(crate) async fn csrf(&mut self, page: &str) -> String {
        hidden(&self.get(page).await.is(200), "csrf")
    }

    pub(crate) async fn log_in(&mut self, email: &str, password: &str) -> Answer {
        self.submit("/admin/login/", "/admin/login/", &[("email", email), ("password", password)]).await
    }

    /// Follows a redirect, and gives the page that it leads to.
    pub(crate) async fn follow(&mut self, answer: Answer) -> Answer {
        let location = answer.is(303).header("location").to_owned();
        self.get(&location).await.is(200)
    }
}

/// The value of a hidden field of a page's first form that has it.
#[track_caller]
pub(crate) fn hidden(page: &Answer, name: &str) -> String {
    let start = format!("type=\"hidden\" name=\"{name}\" value=\"");
    let text = page.plain();
    let Some(value) = text.split(&start).nth(1) else { panic!("there is no hidden field {name}\n{page}") };
    value.split('"').next().unwrap_or_default().to_owned()
}

/// A page must say this.
#[track_caller]
pub(crate) fn says(page: &Answer, text: &str) {
    assert!(page.plain().contains(text), "the page should say {text:?}\n{page}");
}
