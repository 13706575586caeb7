//! Who is believed about whom.

use salvo::http::Method;
use salvo::hyper;

use super::*;
use crate::extract::{base_url, client_address};

/// A request from this peer with these headers.
fn request(peer: &str, headers: &[(&'static str, &str)]) -> Request {
    let mut builder = hyper::Request::builder().method(Method::GET).uri("/api/products/?page=2");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let mut req = Request::from_hyper(builder.body(salvo::http::ReqBody::None).unwrap(), Scheme::HTTP);
    *req.remote_addr_mut() = SocketAddr::new(peer.parse().unwrap(), 4711).into();
    req
}

fn trusted() -> Vec<Network> {
    ["127.0.0.1", "10.0.0.0/8", "fd00::/8", "::1"].map(|text| text.parse().unwrap()).to_vec()
}

/// Who asks, and under which URL.
fn seen(peer: &str, headers: &[(&'static str, &str)]) -> (String, String) {
    let headers: Vec<_> = [("host", "shop.example")].iter().chain(headers).copied().collect();
    let mut req = request(peer, &headers);
    see_through(&mut req, &trusted()).unwrap();
    assert_eq!(req.uri().path_and_query().unwrap().as_str(), "/api/products/?page=2");
    (client_address(&req).unwrap().to_string(), base_url(&req))
}

fn client(peer: &str, forwarded: &[&str]) -> String {
    let headers: Vec<_> = forwarded.iter().map(|value| ("x-forwarded-for", *value)).collect();
    seen(peer, &headers).0
}

#[test]
fn a_stranger_is_not_believed() {
    let headers = [
        ("x-forwarded-for", "192.0.2.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "for=192.0.2.9;proto=https;host=evil.example"),
    ];
    assert_eq!(seen("203.0.113.5", &headers), ("203.0.113.5".into(), "http://shop.example".into()));
    // `Forwarded` is nobody's word.
    assert_eq!(seen("10.1.2.3", &headers[3..]), ("10.1.2.3".into(), "http://shop.example".into()));
}

#[test]
fn a_trusted_proxy_is_believed() {
    let headers = [
        ("x-forwarded-for", "203.0.113.5"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "Shop.Example:8443"),
    ];
    assert_eq!(seen("10.1.2.3", &headers), ("203.0.113.5".into(), "https://shop.example:8443".into()));
    assert_eq!(seen("::ffff:10.1.2.3", &headers).0, "203.0.113.5");
    assert_eq!(seen("10.1.2.3", &[]).0, "10.1.2.3");
    assert_eq!(seen("10.1.2.3", &[("x-forwarded-proto", "gopher")]).1, "http://shop.example");
    assert_eq!(seen("10.1.2.3", &[("x-forwarded-host", "a.example, b.example")]).1, "http://b.example");
}

#[test]
fn of_a_chain_the_last_stranger_is_the_client() {
    assert_eq!(client("10.0.0.1", &["203.0.113.5, 10.0.0.2"]), "203.0.113.5");
    // What a client makes up stands to the left of its own address.
    assert_eq!(client("10.0.0.1", &["198.51.100.1, 203.0.113.5"]), "203.0.113.5");
    assert_eq!(client("10.0.0.1", &["198.51.100.1", "203.0.113.5", "10.0.0.2,10.0.0.3"]), "203.0.113.5");
    // All of them are ours: the first one asked by itself.
    assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
}

#[test]
fn addresses_come_in_many_forms() {
    assert_eq!(client("::1", &["2001:db8::7"]), "2001:db8::7");
    assert_eq!(client("fd00::1", &["[2001:db8::7]:1234, fd00::2"]), "2001:db8::7");
    assert_eq!(client("::1", &["[2001:db8::7]"]), "2001:db8::7");
    assert_eq!(client("::1", &["203.0.113.5:80"]), "203.0.113.5");
    assert_eq!(client("::1", &["::ffff:203.0.113.5"]), "203.0.113.5");
}

#[test]
fn behind_nonsense_nobody_is_believed() {
    for nonsense in ["unknown", "", "203.0.113.5;", "203.0.113", "_hidden", "for=203.0.113.5"] {
        assert_eq!(client("10.0.0.1", &[nonsense]), "10.0.0.1", "{nonsense}");
        assert_eq!(client("10.0.0.1", &[&format!("203.0.113.5, {nonsense}")]), "10.0.0.1", "{nonsense}");
        assert_eq!(client("10.0.0.1", &[&format!("{nonsense}, 203.0.113.5")]), "203.0.113.5", "{nonsense}");
    }
}

#[test]
fn a_host_is_a_name_or_an_address() {
    let named = |host: &str| {
        let mut req = request("203.0.113.5", &[("host", host)]);
        see_through(&mut req, &[]).map(|()| base_url(&req)).map_err(|error| error.status().as_u16())
    };
    for good in ["shop.example", "localhost:8000", "127.0.0.1:80", "[::1]", "[2001:db8::7]:443", "my_shop"] {
        assert_eq!(named(good), Ok(format!("http://{good}")));
    }
    for bad in [
        "",
        "a b",
        "a/b",
        "user@shop.example",
        "shop.example:",
        "shop.example:99999",
        "[::1",
        "[x]",
        "a,b",
        "a'b",
        "a\"b",
    ] {
        assert_eq!(named(bad), Err(400), "{bad}");
    }
    assert_eq!(named(&"a".repeat(256)), Err(400));
    let mut two = request("203.0.113.5", &[("host", "a.example"), ("host", "b.example")]);
    assert!(see_through(&mut two, &[]).is_err());
    assert!(see_through(&mut request("203.0.113.5", &[]), &[]).is_err());
    let mut old = request("203.0.113.5", &[]);
    *old.version_mut() = Version::HTTP_10;
    assert!(see_through(&mut old, &[]).is_ok());
    let mut forwarded = request("10.0.0.1", &[("host", "a.example"), ("x-forwarded-host", "a b")]);
    assert!(see_through(&mut forwarded, &trusted()).is_err());
}

#[test]
fn a_target_that_names_a_host_counts_for_more_than_the_header() {
    let mut req = request("203.0.113.5", &[("host", "a.example")]);
    *req.uri_mut() = "http://b.example/api/".parse().unwrap();
    see_through(&mut req, &[]).unwrap();
    assert_eq!(
        (base_url(&req).as_str(), &req.headers()["host"]),
        ("http://b.example", &HeaderValue::from_static("b.example"))
    );
}

#[test]
fn networks_are_addresses_or_have_a_prefix() {
    for good in ["10.0.0.0/8", " 10.1.2.3 ", "::1", "fd00::/8", "::ffff:10.0.0.1"] {
        assert!(good.parse::<Network>().is_ok(), "{good}");
    }
    for bad in ["", "proxy", "10.0.0.0/33", "10.0.0", "10.0.0.1:80", "*"] {
        assert_eq!(bad.parse::<Network>(), Err(NotANetwork), "{bad}");
    }
}
