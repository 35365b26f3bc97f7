//! SQL of `node_links` (which coordinator holds the link of which node), `stream_tickets`, and `rental_ports` (what the web reaches).

use shared::{
    id::{NodeId, RentalId},
    time::Timestamp,
};

use super::{
    access::Verb,
    tickets::{Bearer, Ticket},
    web::WebPort,
};
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

/// Who holds a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    /// Where it is reached by other coordinators.
    pub(super) peer_url: String,
    /// Its run.
    pub(super) instance: String,
}

/// A link as it is noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Noted {
    /// Whose it is.
    pub(super) node: NodeId,
    /// Who holds it.
    pub(super) holder: Holder,
    /// Its number in the holder's run.
    pub(super) serial: i64,
    /// Since when it is held.
    pub(super) linked: Timestamp,
}

/// Notes that a link is held; false if a newer one of this node is.
pub(super) fn hold(tx: &mut dyn Tx, link: &Noted) -> Result<bool> {
    let noted = tx.execute(
        "INSERT INTO node_links (node_id, peer_url, instance, serial, linked_us) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (node_id) DO UPDATE SET peer_url = $2, instance = $3, serial = $4, linked_us = $5
         WHERE node_links.linked_us <= $5",
        params![
            link.node,
            link.holder.peer_url.as_str(),
            link.holder.instance.as_str(),
            link.serial,
            link.linked
        ],
    )?;
    Ok(noted == 1)
}

/// Whether a link is noted as it is.
pub(super) fn is_noted(tx: &mut dyn Tx, link: &Noted) -> Result<bool> {
    let rows = tx.query(
        "SELECT instance, serial FROM node_links WHERE node_id = $1",
        params![link.node],
    )?;
    let Some(row) = rows.first() else {
        return Ok(false);
    };
    Ok(row.text(0)? == link.holder.instance && row.int(1)? == link.serial)
}

/// Forgets a link, unless another one is held by now.
pub(super) fn let_go(tx: &mut dyn Tx, node: NodeId, instance: &str, serial: i64) -> Result<()> {
    tx.execute(
        "DELETE FROM node_links WHERE node_id = $1 AND instance = $2 AND serial = $3",
        params![node, instance, serial],
    )?;
    Ok(())
}

pub(super) fn holder(tx: &mut dyn Tx, node: NodeId) -> Result<Option<Holder>> {
    let rows = tx.query(
        "SELECT peer_url, instance FROM node_links WHERE node_id = $1",
        params![node],
    )?;
    let found = rows.first().map(|row| {
        Ok(Holder {
            peer_url: row.text(0)?.to_owned(),
            instance: row.text(1)?.to_owned(),
        })
    });
    found.transpose()
}

pub(super) fn insert_ticket(tx: &mut dyn Tx, hash: &[u8], ticket: &Ticket) -> Result<()> {
    let (kind, who, by) = ticket.bearer.parts();
    tx.execute(
        "INSERT INTO stream_tickets (hash, rental_id, verb, port, bearer, who, via, expires_us)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            hash,
            ticket.rental,
            ticket.verb.name(),
            ticket.verb.port().map(i64::from),
            kind,
            who,
            by,
            ticket.expires
        ],
    )?;
    Ok(())
}

/// Takes a ticket away, whatever it is for; nothing for who comes second.
pub(super) fn take_ticket(tx: &mut dyn Tx, hash: &[u8]) -> Result<Option<Ticket>> {
    let rows = tx.query(
        "SELECT rental_id, verb, port, bearer, who, via, expires_us FROM stream_tickets WHERE hash = $1",
        params![hash],
    )?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let corrupt = |column: &str| Error::corrupt("stream_tickets", "a hash", column);
    let port = row.opt_int(2)?.map(u16::try_from).transpose();
    let port = port.map_err(|_| corrupt("port"))?;
    let ticket = Ticket {
        rental: row.text(0)?.parse().map_err(|_| corrupt("rental_id"))?,
        verb: Verb::of(row.text(1)?, port).ok_or_else(|| corrupt("verb"))?,
        bearer: Bearer::from_parts(row.text(3)?, row.text(4)?, row.text(5)?)
            .ok_or_else(|| corrupt("bearer"))?,
        expires: Timestamp::from_micros(row.int(6)?),
    };
    let taken = tx.execute("DELETE FROM stream_tickets WHERE hash = $1", params![hash])?;
    Ok((taken == 1).then_some(ticket))
}

/// Forgets up to `limit` that expired before a moment; how many.
pub(super) fn forget_tickets(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM stream_tickets WHERE hash IN
         (SELECT hash FROM stream_tickets WHERE expires_us < $1 ORDER BY expires_us LIMIT $2)",
        params![before, limit],
    )?)
}

/// Ports of a rental that the web reaches, the lowest first.
pub(super) fn web_ports(tx: &mut dyn Tx, rental: RentalId) -> Result<Vec<WebPort>> {
    let rows = tx.query(
        "SELECT port, access, version FROM rental_ports WHERE rental_id = $1 ORDER BY port",
        params![rental],
    )?;
    let port = |row: &Row| {
        let number = u16::try_from(row.int(0)?);
        Ok(WebPort {
            rental,
            port: number
                .map_err(|_| Error::corrupt("rental_ports", &rental.to_string(), "port"))?,
            public: row.text(1)? == "public",
            version: row.int(2)?,
        })
    };
    rows.iter().map(port).collect()
}

pub(super) fn put_web_port(tx: &mut dyn Tx, port: &WebPort) -> Result<()> {
    let access = if port.public { "public" } else { "private" };
    tx.execute(
        "INSERT INTO rental_ports (rental_id, port, access, version) VALUES ($1, $2, $3, $4)
         ON CONFLICT (rental_id, port) DO UPDATE SET access = $3, version = $4",
        params![port.rental, i64::from(port.port), access, port.version],
    )?;
    Ok(())
}

/// Closes a port; false if it wasn't open.
pub(super) fn delete_web_port(tx: &mut dyn Tx, rental: RentalId, port: u16) -> Result<bool> {
    let closed = tx.execute(
        "DELETE FROM rental_ports WHERE rental_id = $1 AND port = $2",
        params![rental, i64::from(port)],
    )?;
    Ok(closed == 1)
}
