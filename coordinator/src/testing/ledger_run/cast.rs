//! Who takes part in generated operations, and what they do next, by chance that a seed repeats.

use shared::{
    id::{Ids, PaymentId, PayoutId, RentalId, UserId},
    money::{Amount, Asset},
};

use crate::domain::ledger::{
    holds::{Hold, Owner},
    model::{Account, Cause, Posting},
};

/// A small generator (SplitMix64): the same seed gives the same numbers everywhere.
#[derive(Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let count = u64::try_from(of.len()).unwrap_or(1);
        &of[usize::try_from(self.below(count)).unwrap_or(0)]
    }
}

/// Who takes part.
#[derive(Debug)]
pub(super) struct Cast {
    assets: Vec<Asset>,
    users: Vec<UserId>,
    providers: Vec<UserId>,
    payers: Vec<String>,
    rentals: Vec<RentalId>,
    ids: Ids,
    serial: i64,
    /// Payouts that wait or are on their way: which, and whether they are sent.
    payouts: Vec<(Hold, bool)>,
    /// Postings that were made, to be made again.
    made: Vec<Posting>,
}

impl Cast {
    pub(super) fn new(assets: Vec<Asset>) -> Self {
        let ids = Ids::System;
        Self {
            assets,
            users: (0..8).map(|_| ids.mint()).collect(),
            providers: (0..4).map(|_| ids.mint()).collect(),
            payers: (0..4).map(|number| format!("0x{number:040x}")).collect(),
            rentals: (0..40).map(|_| ids.mint()).collect(),
            ids,
            serial: 0,
            payouts: Vec::new(),
            made: Vec::new(),
        }
    }

    /// The next operation: one posting, or two that belong together.
    pub(super) fn next(&mut self, chance: &mut Chance) -> Vec<Posting> {
        self.serial += 1;
        let asset = *chance.pick(&self.assets);
        let user = *chance.pick(&self.users);
        let provider = *chance.pick(&self.providers);
        let rental = *chance.pick(&self.rentals);
        let payer = chance.pick(&self.payers).clone();
        // mostly small, now and then nothing or much
        let atomic = match chance.below(20) {
            0 => 0,
            1 => 1_000_000_000_000,
            _ => i64::try_from(chance.below(5_000_000)).unwrap_or(0),
        };
        let amount = Amount::from_atomic(atomic).unwrap_or(Amount::ZERO);
        match chance.below(14) {
            10 | 11 => self.payout(chance, asset, amount),
            12 => self.exchange(chance, user, amount),
            13 => self.again(chance),
            kind => {
                let (debit, credit, cause) = self.movement(kind, rental, (user, provider, payer));
                vec![Posting {
                    asset,
                    debit,
                    credit,
                    amount,
                    cause,
                }]
            }
        }
    }

    /// From where, to where and why money moves in an operation of one posting.
    fn movement(
        &self,
        kind: u64,
        rental: RentalId,
        (user, provider, payer): (UserId, UserId, String),
    ) -> (Account, Account, Cause) {
        let outside = || Account::External("eip155:84532".to_owned());
        let escrow = Account::RentalEscrow(rental);
        let serial = self.serial;
        let so_far = Amount::from_atomic(serial).unwrap_or(Amount::ZERO);
        let available = Account::UserAvailable(user);
        let pending = Account::ProviderPending(provider);
        match kind {
            0 | 1 => {
                let payment: PaymentId = self.ids.mint();
                (outside(), escrow, Cause::Payment(payment))
            }
            2 => {
                let cause = Cause::SandboxGrant(serial.to_string());
                (outside(), available, cause)
            }
            3 => {
                let cause = Cause::BalancePurchase(rental, serial.to_string());
                (available, escrow, cause)
            }
            4 | 5 => (escrow, pending, Cause::WindowProvider(rental, serial)),
            6 => {
                let cause = Cause::WindowFee(rental, serial);
                (escrow, Account::PlatformFees, cause)
            }
            7 if serial % 2 == 0 => (escrow, available, Cause::Refund(rental, so_far)),
            7 => {
                let owed = Account::PayerRefunds(payer.as_str().into());
                (escrow, owed, Cause::Refund(rental, so_far))
            }
            8 => {
                let payable = Account::ProviderAvailable(provider);
                (pending, payable, Cause::EarningsReleased(rental, so_far))
            }
            _ => {
                let cause = Cause::Goodwill(rental, serial.to_string());
                (Account::PlatformFees, available, cause)
            }
        }
    }

    /// A payout's next step: it is held, sent, and then gone or back.
    fn payout(&mut self, chance: &mut Chance, asset: Asset, amount: Amount) -> Vec<Posting> {
        let moves = |hold: &Hold, debit, credit, cause| {
            vec![Posting {
                asset: hold.asset,
                debit,
                credit,
                amount: hold.amount,
                cause,
            }]
        };
        if self.payouts.is_empty() || chance.below(2) == 0 {
            let owner = match chance.below(3) {
                0 => Owner::Consumer(*chance.pick(&self.users)),
                1 => Owner::Provider(*chance.pick(&self.providers)),
                _ => Owner::Payer(chance.pick(&self.payers).as_str().into()),
            };
            let payout: PayoutId = self.ids.mint();
            let hold = Hold {
                payout,
                owner,
                asset,
                amount,
            };
            let (from, to) = (hold.owner.available(), hold.owner.held());
            let steps = moves(&hold, from, to, Cause::PayoutHeld(payout));
            self.payouts.push((hold, false));
            return steps;
        }
        let count = u64::try_from(self.payouts.len()).unwrap_or(1);
        let at = usize::try_from(chance.below(count)).unwrap_or(0);
        let (hold, sent) = self.payouts.swap_remove(at);
        let held = hold.owner.held();
        match (sent, chance.below(2)) {
            (false, 0) => {
                let cause = Cause::PayoutSent(hold.payout);
                let steps = moves(&hold, held, Account::PayoutClearing, cause);
                self.payouts.push((hold, true));
                steps
            }
            (true, 0) => {
                let to = Account::External("eip155:84532".to_owned());
                let cause = Cause::PayoutEnded(hold.payout);
                moves(&hold, Account::PayoutClearing, to, cause)
            }
            (sent, _) => {
                let from = if sent { Account::PayoutClearing } else { held };
                let cause = Cause::PayoutEnded(hold.payout);
                moves(&hold, from, hold.owner.available(), cause)
            }
        }
    }

    /// Out of one currency into another: two transfers in one transaction, through the desk.
    fn exchange(&mut self, chance: &mut Chance, user: UserId, amount: Amount) -> Vec<Posting> {
        let (from, to) = (*chance.pick(&self.assets), *chance.pick(&self.assets));
        let desk = || Account::External("exchange".to_owned());
        let leg = |asset, debit, credit, side: &str| Posting {
            asset,
            debit,
            credit,
            amount,
            cause: Cause::SandboxGrant(format!("exchange {} {side}", self.serial)),
        };
        vec![
            leg(from, Account::UserAvailable(user), desk(), "out"),
            leg(to, desk(), Account::UserAvailable(user), "in"),
        ]
    }

    /// Something that was posted before, unchanged or with other figures.
    fn again(&mut self, chance: &mut Chance) -> Vec<Posting> {
        if self.made.is_empty() {
            return Vec::new();
        }
        let mut posting = chance.pick(&self.made).clone();
        if chance.below(4) == 0 {
            let more = posting.amount.atomic().saturating_add(1);
            posting.amount = Amount::from_atomic(more).unwrap_or(posting.amount);
        }
        vec![posting]
    }

    pub(super) fn remember(&mut self, posting: &Posting) {
        const MADE_MAX: usize = 256;
        if self.made.len() < MADE_MAX {
            self.made.push(posting.clone());
        } else {
            let at = usize::try_from(self.serial).unwrap_or(0) % MADE_MAX;
            self.made[at] = posting.clone();
        }
    }
}
