//! The slices of the market, in order; a slice may call only those before it:
//! `access` → `events` → `audit` → `settings` → `mail` → `auth` → `apikeys` → `device_login` → `sshkeys` → `kyc` → `oidc` → `webhooks` → `ledger` → `earnings` → `nodes` → `images` → `offers` → `rates` → `payments` → `wallets` → `rentals` → `metering` → `disputes` → `settlement` → `payouts` → `invoices` → `gateway` → `agentlink` → `analytics` → `admin`.

pub mod access;
pub mod admin;
pub mod agentlink;
pub mod analytics;
pub mod apikeys;
pub mod audit;
pub mod auth;
pub mod device_login;
pub mod disputes;
pub mod earnings;
pub mod events;
pub mod gateway;
pub mod images;
pub mod invoices;
pub mod kyc;
pub mod ledger;
pub mod mail;
pub mod metering;
pub mod nodes;
pub mod offers;
pub mod oidc;
pub mod payments;
pub mod payouts;
pub mod rates;
pub mod rentals;
pub mod settings;
pub mod settlement;
pub mod sshkeys;
pub mod wallets;
pub mod webhooks;
