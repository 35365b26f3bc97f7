//! Amounts, assets and prices: their text forms, and that no unit is lost.

use super::*;

fn amount(text: &str) -> Amount {
    text.parse().expect("an amount")
}

#[test]
fn text_form_is_exact() {
    for (text, atomic) in [
        ("0", 0),
        ("0.000001", 1),
        ("12.345678", 12_345_678),
        ("7.5", 7_500_000),
    ] {
        assert_eq!(amount(text).atomic(), atomic);
    }
    assert_eq!(amount("7.5").to_string(), "7.500000");
    for bad in [
        "",
        "-1",
        "1e3",
        "1.",
        ".5",
        "0.0000001",
        "1,5",
        "99999999999999999999",
        " 1",
        "+1",
    ] {
        assert!(bad.parse::<Amount>().is_err(), "{bad}");
    }
}

#[test]
fn an_asset_is_its_code() {
    for code in ["USDC", "EURC", "AB", "A2345678"] {
        let asset: Asset = code.parse().expect("a code");
        assert_eq!((asset.code(), asset.to_string().as_str()), (code, code));
        let json = serde_json::to_string(&asset).expect("text");
        assert_eq!(json, format!("\"{code}\""));
        assert_eq!(serde_json::from_str::<Asset>(&json).expect("a code"), asset);
    }
    for bad in [
        "",
        "U",
        "usdc",
        "USD C",
        "ABCDEFGHI",
        "1AB",
        "US\0C",
        "ÜSD",
        "USD\u{ff10}",
    ] {
        assert_eq!(Asset::from_code(bad), None, "{bad:?}");
        assert!(serde_json::from_value::<Asset>(bad.into()).is_err());
    }
    assert!(Asset::EURC < Asset::USDC, "ordered as their codes");
}

#[test]
fn a_quarter_gib_at_two_thousandths_is_five_hundred_atomic_units_an_hour() {
    let resources = Resources {
        ram_bytes: 256 << 20,
        cpu_millis: 0,
        gpu_count: 0,
        disk_bytes: 0,
    };
    let prices = UnitPrices {
        ram_gib_hour: amount("0.002"),
        ..UnitPrices::default()
    };
    let rate = Rate::of(&resources, &prices).expect("fits");
    assert_eq!(rate.micro_per_hour(), 500_000_000);
    assert_eq!(rate.charge_for_ms(3_600_000).expect("fits").atomic(), 500);
    assert_eq!(rate.charge_for_ms(1_000).expect("fits").atomic(), 0);
    assert_eq!(rate.price_for_ms(1).expect("fits").atomic(), 1);
    // billed second by second, cumulatively, it still comes out at 500, fee included
    let (mut charged, mut fee) = (Amount::ZERO, Amount::ZERO);
    for second in 1..=3_600 {
        let total = rate.charge_for_ms(second * 1_000).expect("fits");
        charged = charged
            .plus(total.minus(charged).expect("grows"))
            .expect("fits");
        let fee_total = total.basis_points(500).expect("fits");
        fee = fee
            .plus(fee_total.minus(fee).expect("grows"))
            .expect("fits");
    }
    assert_eq!((charged.atomic(), fee.atomic()), (500, 25));
}

#[test]
fn every_resource_has_its_part() {
    let resources = Resources {
        ram_bytes: 2 << 30,
        cpu_millis: 1_500,
        gpu_count: 1,
        disk_bytes: 10 << 30,
    };
    let prices = UnitPrices {
        ram_gib_hour: amount("0.01"),
        cpu_hour: amount("0.02"),
        gpu_hour: amount("1"),
        disk_gib_hour: amount("0.001"),
    };
    let rate = Rate::of(&resources, &prices).expect("fits");
    assert_eq!(rate.charge_for_ms(3_600_000).expect("fits"), amount("1.06"));
}
