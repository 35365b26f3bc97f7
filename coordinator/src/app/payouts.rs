//! Money out, put together from the settings and the ways by which money comes in.

use std::sync::Arc;

use crate::{
    config::Config,
    domain::{
        mail::Postbox,
        payments::{payees::Payee, routes::Routes},
        payouts::{
            Rules,
            driver::{Payouts, Rail},
        },
        rentals::purchase::Purchases,
    },
    keys::Keys,
};

pub(super) fn payouts(
    config: &Config,
    keys: &Keys,
    purchases: &Purchases,
    ways: &Routes,
    postbox: &Arc<Postbox>,
) -> Payouts {
    let rail = |payee: &Payee| {
        let way = ways.of(payee.network)?;
        Some(Rail {
            asset: payee.asset,
            network: payee.network,
            token: payee.token,
            facilitator: Arc::clone(&way.facilitator),
            chain: way.chain.clone(),
        })
    };
    Payouts {
        db: purchases.db.clone(),
        wallet: keys.wallet.clone(),
        rails: purchases.payees.all().filter_map(rail).collect(),
        pay_to: purchases.payees.all().map(|payee| payee.pay_to).collect(),
        rules: Rules::of(&config.payouts),
        kyc: config.kyc.clone(),
        postbox: Arc::clone(postbox),
        public_url: purchases.public_url.clone(),
        clock: Arc::clone(&purchases.clock),
        ids: Arc::clone(&purchases.ids),
    }
}
