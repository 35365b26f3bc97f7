//! What goes out by itself: earnings by schedule, and what is left of rentals that wallets without an account paid.

use super::desk::{
    ONE, amount, at_once, balance, fund, holds, id_of, on_network, provider, wallet,
};
use shared::{
    id::UserId,
    x402::network::{self, BASE},
};

use crate::{
    domain::{
        ledger::{holds::Owner, model::Account},
        payouts::{came_by, driver::Rail},
    },
    error::Result,
    params,
    store::Tx,
    tasks::{Task as _, payouts::Payouts, settlement::Settlement},
    testing::{TestApp, facilitator::Turn, market::Market, on_both_stores},
};

on_both_stores!(
    earnings_go_out_by_schedule,
    a_wallet_gets_back_what_its_rental_did_not_use,
    dust_waits_until_it_is_worth_it,
    money_goes_back_by_the_network_that_it_came_over,
    a_refund_that_fails_is_tried_again_the_next_day,
);

async fn turn(test: &TestApp) -> serde_json::Value {
    let turn = Payouts::new(test.app.clone()).activate().await;
    turn.expect("it runs")
}

async fn earnings_go_out_by_schedule(test: TestApp) {
    let test = at_once(test, |_| ());
    let who = provider(&test, 7 * ONE, wallet(9)).await;
    let mut task = Payouts::new(test.app.clone());
    let done = task.activate().await.expect("it runs");
    assert_eq!((&done["earnings"], &done["ended"]), (&1.into(), &1.into()));
    assert_eq!(on_network(&test, wallet(9)).await, 7 * ONE);
    let earned = Account::ProviderAvailable(id_of(&who));
    fund(&test, earned.clone(), 2 * ONE, "more").await;
    let done = task.activate().await.expect("it runs");
    assert_eq!(done["earnings"], 0, "not before the next round");
    test.clock.advance_ms(86_400_000);
    let done = task.activate().await.expect("it runs");
    assert_eq!(done["earnings"], 1);
    assert_eq!(on_network(&test, wallet(9)).await, 9 * ONE);
    // less than the minimum stays
    fund(&test, earned.clone(), ONE - 1, "a little").await;
    test.clock.advance_ms(86_400_000);
    task.activate().await.expect("it runs");
    assert_eq!(balance(&test, earned).await, ONE - 1);
    holds(&test).await;
}

/// Paid by a wallet, used for a part of its time, earned and refunded: at the end the network has what the books say, to the unit.
async fn a_wallet_gets_back_what_its_rental_did_not_use(test: TestApp) {
    let test = at_once(test, |payouts| {
        payouts.rules.dust = amount(1);
        payouts.rules.minimum = amount(1);
    });
    let mut market = Market::open(test).await;
    let payer = market.payer.address().parse().expect("an address");
    let id = market.run(3_600).await;
    let paid = market.rental(id).await.paid.atomic();
    assert_eq!(on_network(&market.test, payer).await, -paid);
    market.pass(600_000).await;
    market
        .node
        .finish(id, 0, shared::wire::observed::ExitCause::Itself);
    market.pass(10_000).await;
    market.settle().await;
    let rental = market.rental(id).await;
    let back = rental.refunded.atomic();
    assert!(back > 0 && rental.settled_at.is_some(), "{rental:?}");
    let done = turn(&market.test).await;
    assert_eq!(
        (&done["refunds"], &done["ended"]),
        (&1.into(), &1.into()),
        "{done}"
    );
    assert_eq!(on_network(&market.test, payer).await, back - paid);
    let done = turn(&market.test).await;
    assert_eq!((&done["refunds"], &done["ended"]), (&0.into(), &0.into()));
    let reserves = market.test.app.payouts.reserves().await.expect("asked");
    let reserve = reserves[0].expect("a quiet moment");
    assert!(reserve.is_exact(), "{reserve:?}");
    assert_eq!(reserve.on_chain, paid - back);
    holds(&market.test).await;
    // the provider's part waits out the dispute window, and the market keeps its fee
    market.test.clock.advance_ms(86_400_000);
    let mut task = Settlement::new(market.test.app.clone());
    task.activate().await.expect("it runs");
    let earned = rental.charged.minus(rental.fee).expect("fits").atomic();
    let account = Account::ProviderAvailable(rental.provider);
    assert_eq!(balance(&market.test, account).await, earned);
    holds(&market.test).await;
}

async fn dust_waits_until_it_is_worth_it(test: TestApp) {
    let test = at_once(test, |_| ());
    let payer = wallet(9).to_string();
    let owed = Account::PayerRefunds(payer.as_str().into());
    fund(&test, owed.clone(), 9_999, "dust").await;
    assert_eq!(turn(&test).await["refunds"], 0);
    assert_eq!(turn(&test).await["refunds"], 0);
    fund(&test, owed.clone(), 1, "a grain").await;
    let done = turn(&test).await;
    assert_eq!((&done["refunds"], &done["ended"]), (&1.into(), &1.into()));
    assert_eq!(on_network(&test, wallet(9)).await, 10_000);
    assert_eq!(balance(&test, owed).await, 0);
    holds(&test).await;
}

async fn a_refund_that_fails_is_tried_again_the_next_day(test: TestApp) {
    let (test, double) = super::desk::with_plan(test, &[], true);
    let owed = Account::PayerRefunds(wallet(9).to_string().as_str().into());
    fund(&test, owed.clone(), ONE, "owed").await;
    for _ in 0..400 {
        double.plan(Turn::Refuse);
    }
    assert_eq!(turn(&test).await["refunds"], 1);
    for _ in 0..300 {
        if balance(&test, owed.clone()).await == ONE {
            break;
        }
        test.clock.advance_ms(10_000);
        assert_eq!(turn(&test).await["refunds"], 0);
    }
    assert_eq!(balance(&test, owed.clone()).await, ONE);
    assert_eq!(turn(&test).await["refunds"], 0, "not again at once");
    test.clock.advance_ms(86_400_000);
    let working = at_once(test.beside(), |_| ());
    assert_eq!(turn(&working).await["refunds"], 1);
    assert_eq!(on_network(&working, wallet(9)).await, ONE);
    holds(&working).await;
}

/// Two networks, two wallets' refunds and a balance that was filled over the second: each goes out by the one it came over, and by the first
/// where nothing is known or configured.
async fn money_goes_back_by_the_network_that_it_came_over(test: TestApp) {
    let test = at_once(test, |payouts| {
        let first = payouts.rails[0].clone();
        let asset = first.asset;
        let token = *BASE.token(asset).expect("it is there too");
        payouts.rails.push(Rail {
            network: &BASE,
            token,
            ..first
        });
    });
    let networks = ["eip155:84532", "eip155:8453", "eip155:1"];
    for (at, network) in networks.iter().enumerate() {
        let number = 20 + u8::try_from(at).expect("small");
        let purse = format!("{}@{network}", wallet(number));
        let owed = Account::PayerRefunds(purse.as_str().into());
        fund(&test, owed, ONE, network).await;
    }
    let unknown = wallet(23).to_string();
    let owed = Account::PayerRefunds(unknown.as_str().into());
    fund(&test, owed, ONE, "unknown").await;
    assert_eq!(turn(&test).await["refunds"], 4);
    for (number, network) in [
        (20, networks[0]),
        (21, networks[1]),
        (22, networks[0]),
        (23, networks[0]),
    ] {
        let to = wallet(number).to_string();
        let read = test.app.db.read("test.network", move |tx| {
            let rows = tx.query(
                "SELECT network, token FROM payouts WHERE pay_to = $1",
                params![to.as_str()],
            )?;
            Ok((rows[0].text(0)?.to_owned(), rows[0].text(1)?.to_owned()))
        });
        let (by, token) = read.await.expect("a payout");
        assert_eq!(by, network, "{number}");
        let known = network::by_caip2(&by).expect("known");
        let asset = test.app.payouts.rails[0].asset;
        assert_eq!(
            token,
            known.token(asset).expect("a token").address.to_string()
        );
    }
    // whoever filled a balance over a network takes it back by that, unless another is named
    let who = super::desk::person(&test, "ada@example.org", &["consumer"]).await;
    let user = id_of(&who);
    let pay = test.app.db.write("test.paid", move |tx| {
        for (at, network) in ["eip155:84532", "eip155:8453"].into_iter().enumerate() {
            paid_over(tx, user, network, i64::try_from(at).unwrap_or(0))?;
        }
        Ok(())
    });
    pay.await.expect("paid");
    let owner = Owner::Consumer(user);
    let asset = super::desk::asset(&test);
    let read = test
        .app
        .db
        .read("test.came_by", move |tx| came_by(tx, &owner, asset));
    let network = read.await.expect("read");
    assert_eq!(network.as_deref(), Some("eip155:8453"));
    let payouts = &test.app.payouts;
    assert_eq!(
        payouts
            .rail(asset, network.as_deref())
            .expect("a rail")
            .network
            .caip2,
        "eip155:8453"
    );
    assert!(payouts.way_by(asset, "eip155:84532").is_ok());
    let error = payouts.way_by(asset, "eip155:1").expect_err("none there");
    assert_eq!(error.fields()[0].pointer, "/network");
}

/// A top-up that was credited.
fn paid_over(tx: &mut dyn Tx, user: UserId, network: &str, at: i64) -> Result<()> {
    let id = format!("pay_{at:032}");
    let quote = format!("quo_{at:032}");
    tx.execute(
        "INSERT INTO quotes (id, purpose, request_sha256, amount, asset, network, pay_to, created_at, expires_at, user_id)
         VALUES ($1, 'top_up', $2, 1, 'USDC', $3, '0x', 0, 0, $4)",
        params![quote.as_str(), id.as_bytes(), network, user],
    )?;
    tx.execute(
        "INSERT INTO payments (id, quote_id, network, asset, payer, nonce, pay_to, amount, valid_after, valid_before, x402_version, payload,
             payload_sha256, state, attempts, next_try_at, created_at, updated_at, user_id)
         VALUES ($1, $2, $3, '0x', '0x', $1, '0x', 1, 0, 0, 2, '{}', $4, 'credited', 1, 0, $5, 0, $6)",
        params![id.as_str(), quote.as_str(), network, id.as_bytes(), at, user],
    )?;
    Ok(())
}
