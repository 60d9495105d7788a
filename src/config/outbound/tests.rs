//! What the sections about outbound mail mean together, and what is said about mistakes in them.

use std::time::Duration;

use super::{Outbound, SiteAsk};
use crate::config::Config;
use crate::queue::policy::{PoolId, Shaping, SourceId, Tls};
use crate::queue::route::{Ask, Found, Way};
use crate::queue::warm_up::Cap;

fn outbound(text: &str) -> Outbound {
    match Config::parse(text, "here.example") {
        Ok(config) => config.outbound,
        Err(problems) => panic!("{problems:?}"),
    }
}

fn problems(text: &str) -> Vec<String> {
    let problems = Config::parse(text, "here.example").unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

fn ask<'a>(domain: &'a str, tenant: Option<&'a str>) -> Ask<'a> {
    Ask { domain, sender_domain: "", tenant, mx: Some(&[]) }
}

const FULL: &str = r#"
    [queue]
    retry_first_s = 60
    warn_after_s = 0
    [[source]]
    name = "out1"
    address = "192.0.2.1"
    ehlo = "Out1.example.org"
    message_rate = "100/s"
    [[source]]
    name = "out2"
    warm_up_start = "2026-12-01"
    warm_up = [50, 100]
    warm_up_percent = 50
    warm_up_days = 4
    [[pool]]
    name = "bulk"
    sources = ["out1", "out2"]
    weights = [9, 1]
    [[tenant]]
    name = "acme"
    logins = ["Sender@acme.example"]
    pool = "bulk"
    [[tenant]]
    name = "other"
    [[route]]
    domain = "relay.test"
    to = ["127.0.0.1:2526", "mx.example.net"]
    port = 2500
    tls = "never"
    retry_max_s = 120
    [[route]]
    sender_domain = "*.example.org"
    to = ["a.gate.test", "b.gate.test"]
    weights = [3, 1]
    username = "u"
    password_file = "/p"
    pool = "default"
    [[shaping]]
    connections = 7
    message_rate = "100/h"
    [[shaping]]
    mx = "*.big.test"
    connections = 3
    site_connections = 4
    [[shaping]]
    source = "out2"
    connections = 2
    [[shaping]]
    domain = "special.test"
    message_rate = "none"
    idle_s = 0
    [[shaping]]
    tenant = "acme"
    tls = "verified"
"#;

#[test]
fn reports_return_no_more_than_a_segment_has_room_for() {
    let segments = "[limits]\nsegment_bytes = 1048576\n";
    assert_eq!(outbound(segments).dsn_return_bytes, 524_288);
    let text = format!("{segments}[queue]\ndsn_return_bytes = 524288");
    assert_eq!(outbound(&text).dsn_return_bytes, 524_288);
    assert_eq!(outbound("").dsn_return_bytes, 1 << 20);
}

#[test]
fn an_empty_file_sends_everything_by_mx_records_from_any_address() {
    let outbound = outbound("");
    assert_eq!(outbound.route_for(&ask("a.test", None)), Found::Direct);
    assert_eq!(outbound.pool_for(None, None), PoolId::default());
    let site = SiteAsk { hosts: &[], domain: "a.test", tenant: None, route: None };
    let plan = outbound.plan_for(&site, &[PoolId::default()]);
    assert_eq!((plan.pools.len(), plan.lanes.len()), (1, 1));
    assert_eq!(*plan.lanes[0].shaping, Shaping::default());
    assert_eq!(outbound.source(plan.lanes[0].source).unwrap().address, None);
    assert_eq!(outbound.retry.expire_after, Duration::from_secs(5 * 86_400));
    assert!(outbound.rules.is_empty() && outbound.tenants.is_empty() && outbound.events.dir.is_none());
    assert!(outbound.events.local);
}

#[test]
fn whose_mail_it_is() {
    let outbound = outbound(FULL);
    let name = |login| outbound.tenant_of(login).map(|tenant| tenant.name.as_str());
    assert_eq!(name("Sender@acme.example"), Some("acme"));
    assert_eq!(name("x@acme.example"), None);
}

#[test]
fn routes_with_their_pools_and_retries() {
    let outbound = outbound(FULL);
    let Found::Route(relay) = outbound.route_for(&ask("relay.test", Some("acme"))) else { panic!() };
    assert_eq!(relay.to_string(), "for domain relay.test: to 127.0.0.1:2526, mx.example.net:2500, TLS never");
    let acme = outbound.tenant("acme");
    assert_eq!(outbound.pool_for(Some(relay), acme), PoolId::of("bulk"), "by the tenant");
    let retry = outbound.retry_for(Some(relay));
    assert_eq!((retry.first, retry.max), (Duration::from_secs(60), Duration::from_secs(120)));
    assert_eq!(outbound.retry_for(None).warn_after, None);
    let from = Ask { sender_domain: "news.example.org", ..ask("x.test", Some("acme")) };
    let Found::Route(gate) = outbound.route_for(&from) else { panic!() };
    assert!(matches!(&gate.way, Way::Shared(targets) if targets[0].1.get() == 3 && targets[1].0.port == 25));
    assert_eq!(gate.tls, Some(Tls::Verified), "a password goes to a known host alone");
    assert_eq!(outbound.pool_for(Some(gate), acme), PoolId::default(), "by the route");
}

#[test]
fn sources_are_as_they_are_written() {
    let outbound = outbound(FULL);
    let source = |name| outbound.source(SourceId::of(name)).unwrap();
    assert_eq!(source("out1").ehlo.as_deref(), Some("out1.example.org"));
    let warm_up = source("out2").warm_up.as_ref().unwrap();
    let day = |number: i64| match warm_up.cap((20_788 + number) * 86_400) {
        Cap::PerDay(cap) => cap.get(),
        other => panic!("{other:?}"),
    };
    // 20,788 days after 1970-01-01 is 2026-12-01.
    assert_eq!([day(0), day(1), day(2), day(3)], [50, 100, 150, 225]);
    assert_eq!(warm_up.cap(20_788 * 86_400 - 1), Cap::NotBegun);
    assert_eq!(warm_up.cap(20_792 * 86_400), Cap::Warm);
    assert_eq!(outbound.pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["bulk", "default"]);
}

#[test]
fn the_most_exact_shaping_wins_for_each_key() {
    let outbound = outbound(FULL);
    let big = ["a.big.test".to_owned(), "b.big.test".to_owned()];
    let shaping = |hosts, domain, tenant, source: Option<&str>| {
        let site = SiteAsk { hosts, domain, tenant, route: None };
        outbound.shaping_for(&site, source.map(SourceId::of))
    };
    let rate = |shaping: &Shaping| shaping.message_rate.map(|rate| rate.to_string());
    let plain = shaping(&[], "x.test", None, Some("out1"));
    assert_eq!((plain.connections.get(), rate(&plain).as_deref()), (7, Some("100/h")));
    assert_eq!(shaping(&[], "x.test", None, Some("out2")).connections.get(), 2);
    let at_big = shaping(&big, "x.test", Some("acme"), Some("out2"));
    assert_eq!((at_big.connections.get(), at_big.site_connections.get()), (3, 4), "mx before source");
    assert_eq!(at_big.tls, Tls::Verified);
    let special = shaping(&big, "special.test", None, None);
    assert_eq!((rate(&special), special.idle, special.connections.get()), (None, Duration::ZERO, 3));
}

#[test]
fn a_plan_has_the_lanes_of_its_pools() {
    let outbound = outbound(FULL);
    let Found::Route(relay) = outbound.route_for(&ask("relay.test", None)) else { panic!() };
    let site = SiteAsk { hosts: &[], domain: "relay.test", tenant: Some("acme"), route: Some(relay) };
    let pools = [PoolId::of("bulk"), PoolId::of("gone")];
    let plan = outbound.plan_for(&site, &pools);
    let lanes: Vec<_> = plan.lanes.iter().map(|lane| (lane.source, lane.shaping.connections.get())).collect();
    assert_eq!(lanes, [(SourceId::of("out1"), 7), (SourceId::of("out2"), 2)]);
    assert!(plan.lanes.iter().all(|lane| lane.shaping.tls == Tls::Never), "the route says so");
    assert_eq!(plan.members(PoolId::of("bulk"))[0].weight.get(), 9);
}

#[test]
fn only_who_is_named_has_a_site_alone() {
    let outbound = outbound(FULL);
    let table = [
        ("x.test", None, "mx.test"),
        ("x.test", Some("other"), "mx.test"),
        ("x.test", Some("acme"), "mx.test of acme"),
        ("special.test", Some("acme"), "mx.test for special.test of acme"),
        ("special.test", None, "mx.test for special.test"),
    ];
    for (domain, tenant, expected) in table {
        assert_eq!(outbound.site_name("mx.test", domain, tenant), expected);
    }
}

#[test]
fn explanations() {
    let outbound = outbound(FULL);
    let mx = ["a.big.test".to_owned()];
    let lines = outbound.explain(&Ask { mx: Some(&mx), ..ask("special.test", Some("acme")) });
    let expected = [
        "route: none matches; by the MX records of the domain",
        "not the route for domain relay.test: the domain is special.test",
        "not the route for domain *, sender domain *.example.org: it has no sender",
        "pool: bulk (by the tenant): out1 (weight 9), out2 (weight 1)",
        "source out1 from 192.0.2.1, shaping for all mail; then tenant acme; then mx *.big.test; then domain \
         special.test: 3 connections (4 of the site), connection rate no limit, message rate no limit, 500 messages \
         a connection, 100 recipients a message, TLS verified",
        "source out1: at most 100/s to all sites",
        "source out2 from any address, shaping for all mail; then source out2; then tenant acme; then mx \
         *.big.test; then domain special.test: 3 connections (4 of the site), connection rate no limit, message rate \
         no limit, 500 messages a connection, 100 recipients a message, TLS verified",
        "source out2: warming up",
        "retry (by [queue]): first after 1 min, doubling to 4 h, sender warned never, returned after 5 d",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn rules_classes_headers_and_events() {
    let outbound = outbound(
        r#"
        [[rule]]
        name = "slow"
        says = "too many"
        action = "slow"
        rate = "1/min"
        count = 2
        within_s = 30
        [[rule]]
        name = "other"
        says = '^554'
        action = "switch-pool"
        pool = "default"
        [tenants]
        header = "X-Tenant"
        [[bounce_class]]
        name = "Ours"
        texts = ["purple"]
        [events]
        dir = "/e"
        keep_s = 0
        local = false
        "#,
    );
    let rules: Vec<String> = outbound
        .rules
        .iter()
        .map(|rule| format!("{} {} {:?}", rule.name, rule.does, rule.duration))
        .collect();
    assert_eq!(rules, ["slow slow to 1/min 3600s", "other switch to pool default 3600s"]);
    assert_eq!(outbound.rules[0].trigger.unwrap().count, 2);
    assert_eq!((outbound.headers.tenant.as_deref(), outbound.headers.campaign), (Some("X-Tenant"), None));
    let purple = crate::mail::reply::Reply::of_lines(550, [&b"Purple"[..]]);
    assert_eq!(outbound.classes.classify(&purple), "Ours");
    assert_eq!((outbound.events.keep, outbound.events.rotate_bytes), (None, 256 << 20));
    assert!(!outbound.events.local);
}

/// Each text with all that is said about it.
#[test]
fn problems_say_where_and_what() {
    let table: [(&str, &[&str]); 23] = [
        (
            "[queue]\nretry_first_s = 60\nretry_max_s = 59\nretry_jitter_percent = 60",
            &[
                "3:15: `retry_max_s`: found 59, expected at least `retry_first_s`: 60",
                "4:24: `retry_jitter_percent`: found 60, expected 0 to 50",
            ],
        ),
        (
            "[[route]]\ndomain = \"a.test\"\n[[route]]\ndomain = \"A.test\"",
            &["4:10: another route is for domain a.test already, expected one"],
        ),
        (
            "[[route]]\ndomain = \"*.*.test\"",
            &[
                "2:10: `domain`: \"*.*.test\" is no domain name such as \"example.net\", \"*.example.net\" or \"*\": \
               it has characters other than letters, digits and hyphens",
            ],
        ),
        (
            "[[route]]\ntenant = \"x\"\npool = \"y\"\n[[tenant]]\nname = \"z\"",
            &[
                "2:10: `tenant`: found \"x\", but no [[tenant]] has this name; known: z",
                "3:8: `pool`: found \"y\", but no [[pool]] has this name; known: default",
            ],
        ),
        (
            "[[route]]\nto = [\"a.test\", \"b.test\"]\nweights = [1]",
            &["3:11: `weights`: found 1, expected 2, one for each of `to`"],
        ),
        ("[[route]]\nweights = [1]", &["2:11: `weights`: there is no `to` that they could be for"]),
        (
            "[[route]]\nto = [\"a.test\"]\nusername = \"u\"",
            &["3:12: `username`: it needs a `password_file` beside it"],
        ),
        (
            "[[route]]\nto = [\"a.test\"]\nusername = \"u\"\npassword_file = \"p\"\ntls = \"opportunistic\"",
            &[
                "5:7: `tls`: expected \"required\" or \"verified\" where there is a `username`: a password goes under \
               TLS alone",
            ],
        ),
        (
            "[[route]]\nusername = \"u\"\npassword_file = \"p\"",
            &["2:12: `username`: a login is for the hosts in `to`, not for whatever host an MX record names"],
        ),
        (
            "[[route]]\nto = [\"a.test\"]\ntls_begins = \"implicit\"\ntls = \"never\"",
            &["4:7: `tls`: expected \"required\" or \"verified\" where it begins with the first byte"],
        ),
        (
            "[[route]]\nprotocol = \"lmtp\"\nto = [\"a.test:25\"]\n[[route]]\ndomain = \"b.test\"\nprotocol = \"lmtp\"",
            &[
                "3:6: `to`: found port 25, expected another: it is SMTP's, and LMTP must not use it",
                "6:12: `protocol`: \"lmtp\" needs hosts in `to`; MX records are for SMTP",
            ],
        ),
        (
            "[[source]]\nname = \"a b\"\naddress = \"x\"\nmessage_rate = \"fast\"",
            &[
                "2:8: `name`: found \"a b\", expected 1 to 64 letters, digits, \"-\", \"_\", \".\" and \"@\"",
                "3:11: `address`: found \"x\", expected an IP address such as \"192.0.2.1\" or \"2001:db8::1\"",
                "4:16: `message_rate`: found \"fast\", expected a rate such as \"100/h\", \"10/s\" or \"1/30s\"",
            ],
        ),
        (
            "[[source]]\nname = \"a\"\nwarm_up = [5]\n[[source]]\nname = \"a\"\nwarm_up = []\nwarm_up_start = \"soon\"",
            &[
                "3:11: a warm-up needs both `warm_up_start` and `warm_up`",
                "5:8: `name`: another section has \"a\" already, expected one of its own",
                "7:17: `warm_up_start`: found \"soon\", expected a day such as \"2026-12-01\"",
            ],
        ),
        (
            "[[source]]\nname = \"a\"\nwarm_up = []\nwarm_up_start = \"2026-02-29\"\n[[source]]\nname = \"b\"\n\
             warm_up = []\nwarm_up_start = \"2028-02-29\"",
            &[
                "4:17: `warm_up_start`: found \"2026-02-29\", expected a day such as \"2026-12-01\"",
                "7:11: `warm_up`: expected the recipients of 1 to 366 days",
            ],
        ),
        (
            "[[pool]]\nname = \"p\"\nsources = [\"default\", \"x\", \"default\"]\n[[pool]]\nname = \"q\"\nsources = []",
            &[
                "3:23: `sources`: found \"x\", but no [[source]] has this name; known: default",
                "3:28: \"default\" is there twice, expected each source once",
                "6:11: `sources`: found an empty list, expected at least one source",
            ],
        ),
        (
            "[[shaping]]\nconnections = 0\nidle_s = 900\n[[shaping]]\ntls = \"maybe\"\nmessage_rate = \"none\"",
            &[
                "2:15: `connections`: found 0, expected 1 to 10000",
                "3:10: `idle_s`: found 900, expected 0 to 240",
                "5:7: `tls`: found `maybe`, expected one of `never`, `opportunistic`, `required`, `verified`",
                "6:16: another section says the shaping for all mail already, expected one",
            ],
        ),
        (
            "[[rule]]\nname = \"r\"\nsays = \"(\"\naction = \"slow\"\ncount = 2",
            &[
                "3:8: `says`: \"(\" is no regular expression that is taken: unclosed group",
                "4:10: `action`: \"slow\" needs a `rate` beside it",
                "5:9: a trigger needs both `count` and `within_s`",
            ],
        ),
        (
            "[[rule]]\nname = \"r\"\nsays = \"x\"\naction = \"switch-pool\"\nrate = \"1/s\"",
            &[
                "4:10: `action`: \"switch-pool\" needs a `pool` beside it",
                "5:8: `rate`: only the action \"slow\" has one",
            ],
        ),
        (
            "[[tenant]]\nname = \"a\"\nlogins = [\"u@x.test\"]\n[[tenant]]\nname = \"b\"\nlogins = [\"U@x.test\"]",
            &["6:11: \"U@x.test\" is there twice, expected each login at one tenant"],
        ),
        (
            "[tenants]\nheader = \"X Tenant\"",
            &["2:10: `header`: found \"X Tenant\", expected the name of a header field such as \"X-Tenant\""],
        ),
        (
            "[[bounce_class]]\nname = \"a\"\n[[bounce_class]]\nname = \"b\"\ncodes = [\"5.1\"]",
            &[
                "2:8: the class \"a\" needs `texts` or `codes`",
                "4:8: the class \"b\" needs `texts` or `codes`",
                "5:9: `codes`: expected a code such as \"550\", \"5.1.1\" or \"x.1.1\"",
            ],
        ),
        (
            "[events]\nrotate_bytes = 1\nkeep_s = -1",
            &[
                "2:16: `rotate_bytes`: found 1, expected 65536 to 9223372036854775807",
                "3:10: `keep_s`: found -1, expected 0 to 4294967295",
            ],
        ),
        (
            "[limits]\nsegment_bytes = 1048576\n[queue]\ndsn_return_bytes = 524289",
            &["4:20: `dsn_return_bytes`: found 524289, expected at most half of `segment_bytes`: 524288"],
        ),
    ];
    for (text, expected) in table {
        assert_eq!(problems(text), expected, "{text}");
    }
}
