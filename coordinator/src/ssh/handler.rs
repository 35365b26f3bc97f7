//! What a client asks for: to be let in, and channels.
//!
//! The library calls these one after the other, from the task that moves the connection: nothing here waits for a rental. What takes time is a
//! task of its own, which ends with its channel.
//!
//! # Invariants
//! - Whether a key is taken is asked again after its signature was checked.
//! - What isn't a session or a forward into the rental is refused: remote forwards, agents, X11, sockets.

use std::sync::Arc;

use russh::{
    Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty, Sig,
    server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey},
};
use shared::link::open::Open;

use super::{
    admit::{Admission, note_use},
    bytes,
    client::{Client, What},
    inbox::Item,
    visit::Visit,
    wish::{self, Wish},
};

/// Keys that may be asked about, whether they are taken or not.
const OFFERS_MAX: u32 = 24;

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        self.offers += 1;
        if self.offers > OFFERS_MAX {
            return Err(russh::Error::Disconnect);
        }
        match self.judge(user, offer.public_key).await? {
            Some(_) => Ok(Auth::Accept),
            None => self.refuse(),
        }
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        verified: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let Some((guest, admission)) = self.judge(user, verified.public_key).await? else {
            return self.refuse();
        };
        let (rental, fingerprint) = (guest.rental, guest.key.fingerprint().to_owned());
        match (admission, self.gateway.rentals.take(rental)) {
            (Admission::Open(key), Some(place)) => {
                let gateway = self.gateway.clone();
                tracing::info!(rental.id = %rental, key.fingerprint = fingerprint, client = %self.address.0, "let in by SSH");
                let visit = Visit::new(gateway, key, fingerprint, self.address);
                self.visit = Some((Arc::new(visit), place));
                self.connection.let_in(guest);
                note_use(&self.gateway.app, key).await;
            }
            (Admission::Open(_), None) => {
                let why = "this rental has as many connections as may be: close one";
                self.refusal = Some(why.to_owned());
            }
            (Admission::Closed(why), _) => self.refusal = Some(why),
            (Admission::Unknown, _) => return self.refuse(),
        }
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        match self.refusal.take() {
            Some(why) => session.disconnect(Disconnect::ByApplication, &why, ""),
            None => Ok(()),
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let id = channel.id();
        let Some(line) = self.line(channel, session) else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        self.waiting.insert(id, (line, Wish::default()));
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some((host, port)) = wish::target(host_to_connect, port_to_connect) else {
            reply
                .reject(ChannelOpenFailure::AdministrativelyProhibited)
                .await;
            return Ok(());
        };
        let Some(visit) = self.visit.as_ref().map(|(visit, _)| Arc::clone(visit)) else {
            reply
                .reject(ChannelOpenFailure::AdministrativelyProhibited)
                .await;
            return Ok(());
        };
        let Some(line) = self.line(channel, session) else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let rental_id = visit.rental();
        let opening = visit.open(Open::Dial {
            rental_id,
            host,
            port,
        });
        tokio::spawn(bytes::serve_forward(line, opening, reply));
        Ok(())
    }

    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        self.flow.window()
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.put(channel, Item::Data(data.to_vec()));
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.put(channel, Item::Eof);
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.waiting.remove(&channel);
        if let Some(inbox) = self
            .channels
            .remove(&channel)
            .and_then(|inbox| inbox.upgrade())
        {
            inbox.close();
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        col_width: u32,
        row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some((_, wish)) = self.waiting.get_mut(&channel) else {
            return session.channel_failure(channel);
        };
        wish.terminal(term, col_width, row_height);
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        variable_name: &str,
        variable_value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let waiting = self.waiting.get_mut(&channel);
        if waiting.is_some_and(|(_, wish)| wish.variable(variable_name, variable_value)) {
            session.channel_success(channel)
        } else {
            session.channel_failure(channel)
        }
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _x11_auth_protocol: &str,
        _x11_auth_cookie: &str,
        _x11_screen_number: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.begin(channel, session, |wish| Some(What::Exec(wish.shell())))
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.begin(channel, session, |wish| wish.command(data).map(What::Exec))
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let sftp = name == "sftp";
        self.begin(channel, session, |_| sftp.then_some(What::Sftp))
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        col_width: u32,
        row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.put(channel, Item::Resize(wish::size(col_width, row_height)));
        session.channel_success(channel)
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(number) = wish::number(&signal) {
            self.put(channel, Item::Signal(number));
        }
        Ok(())
    }
}
