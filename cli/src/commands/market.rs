//! `offers` and `quote`.

use serde_json::{Map, Value, json};

use crate::{
    api::{Api, Request},
    args::market::{Offers, Order, Sort},
    failure::{Failure, Result},
    output::{self, Column, Form, money, number, text},
    units::{gib_text, show_bytes, show_cpu},
};

/// Most items that the market gives in one page.
const PAGE_MAX: usize = 100;

const OFFER_COLUMNS: [Column; 10] = [
    ("OFFER", |o| text(o, "/id")),
    ("REGION", |o| text(o, "/region")),
    ("RAM FREE", |o| number(o, "/ram_free_bytes", show_bytes)),
    ("RAM MAX", |o| number(o, "/max_ram_bytes", show_bytes)),
    ("CPU FREE", |o| number(o, "/cpu_free_millis", show_cpu)),
    ("GPUS", |o| text(o, "/gpus_free")),
    ("DISK FREE", |o| number(o, "/disk_free_bytes", show_bytes)),
    ("GIB RAM/H", |o| money(o, "/prices/ram_gib_hour")),
    ("CPU/H", |o| money(o, "/prices/cpu_hour")),
    ("NOW", |o| match o.pointer("/available") {
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(_) => "no".to_owned(),
        None => "-".to_owned(),
    }),
];

const QUOTE_FIELDS: [Column; 7] = [
    ("quote", |q| text(q, "/id")),
    ("offer", |q| text(q, "/offer_id")),
    ("price", |q| money(q, "/price")),
    ("of that, provider", |q| money(q, "/provider_share")),
    ("of that, platform", |q| money(q, "/platform_fee")),
    ("rate per hour", |q| money(q, "/rate_per_hour")),
    ("valid until", |q| text(q, "/expires_at")),
];

/// Lists offers.
pub(super) async fn offers(api: &Api, form: Form, filter: &Offers) -> Result<()> {
    output::list(form, &find(api, filter).await?, &OFFER_COLUMNS)
}

/// Offers that fit.
pub(super) async fn find(api: &Api, filter: &Offers) -> Result<Vec<Value>> {
    let wanted = usize::try_from(filter.limit).unwrap_or(PAGE_MAX);
    let sort = match filter.sort {
        Sort::Price => "price",
        Sort::Ram => "ram",
        Sort::Created => "created",
    };
    let request = Request::get("/api/v1/offers")
        .query("ram_gib_min", filter.ram.map(gib_text))
        .query("cpu_min", filter.cpu.map(show_cpu))
        .query("gpu_count_min", filter.gpus)
        .query("gpu_model", filter.gpu_model.as_deref())
        .query("disk_gib_min", filter.disk.map(gib_text))
        .query("region", filter.region.as_deref())
        .query("price_max", filter.price_max)
        .query("sort", Some(sort))
        .query(
            "order",
            Some(if filter.descending { "desc" } else { "asc" }),
        );
    pages(api, &request, wanted).await
}

/// The first `wanted` items of a list.
pub(super) async fn pages(api: &Api, request: &Request, wanted: usize) -> Result<Vec<Value>> {
    let mut items: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    while items.len() < wanted {
        let page = request
            .clone()
            .query("limit", Some((wanted - items.len()).min(PAGE_MAX)))
            .query("cursor", cursor.as_deref());
        let mut page = api.send(&page).await?.ok()?;
        let Some(Value::Array(new)) = page.get_mut("items").map(Value::take) else {
            return Err(Failure::failed("the market's answer has no list"));
        };
        cursor = page
            .get("next_cursor")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let empty = new.is_empty();
        items.extend(new);
        if cursor.is_none() || empty {
            break;
        }
    }
    items.truncate(wanted);
    Ok(items)
}

/// Shows what an order costs.
pub(super) async fn quote(api: &Api, form: Form, order: &Order) -> Result<()> {
    let body = Value::Object(order_body(order));
    let quote = api
        .send(&Request::post("/api/v1/payments/quote", body))
        .await?
        .ok()?;
    output::one(form, &quote, &QUOTE_FIELDS)
}

/// What is ordered, as quotes and rentals take it.
pub(super) fn order_body(order: &Order) -> Map<String, Value> {
    let mut body = Map::new();
    match order.offer {
        Some(offer) => body.insert("offer_id".into(), json!(offer)),
        None => {
            let mut requirements = Map::new();
            if let Some(region) = &order.region {
                requirements.insert("region".into(), json!(region));
            }
            if let Some(price) = order.price_max {
                requirements.insert("price_max".into(), json!(price));
            }
            if let Some(model) = &order.gpu_model {
                requirements.insert("gpu_model".into(), json!(model));
            }
            body.insert("requirements".into(), requirements.into())
        }
    };
    let mut resources = json!({"ram_bytes": order.ram, "cpu_millis": order.cpu});
    if order.gpus != 0 {
        resources["gpu_count"] = json!(order.gpus);
    }
    if let Some(disk_bytes) = order.disk {
        resources["disk_bytes"] = json!(disk_bytes);
    }
    body.insert("resources".into(), resources);
    body.insert("duration_seconds".into(), json!(order.duration));
    body
}
