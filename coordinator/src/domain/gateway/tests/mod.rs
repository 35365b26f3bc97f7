//! Streams into rentals ([`streams`]), which coordinator holds a link ([`holders`]), and how people get at them: [`tickets`], [`sockets`], [`logs`], [`web`], [`post_mortem`]; what
//! ends them: [`ends`].

mod ends;
mod holders;
mod logs;
mod post_mortem;
mod sockets;
mod streams;
mod tickets;
mod web;

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use shared::id::RentalId;
use tokio::{
    net::TcpStream,
    time::{interval, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, client::IntoClientRequest as _},
};

use crate::testing::{TestApp, link::ScriptedLink, market::Market, payer::Payer, served::listen};

/// What isn't there by then isn't coming.
const PATIENCE: Duration = Duration::from_secs(30);

/// A rental that runs on a linked node of a coordinator that is served.
struct Place {
    market: Market,
    link: ScriptedLink,
    rental: RentalId,
    /// `127.0.0.1:port`
    host: String,
}

impl Place {
    async fn open(test: TestApp) -> Self {
        let (listener, url) = listen().await;
        test.serve(listener);
        let mut market = Market::open(test).await;
        let rental = market.run(600).await;
        let link = ScriptedLink::hold(&market.test, market.node.id).await;
        Self {
            market,
            link,
            rental,
            host: url.trim_start_matches("http://").to_owned(),
        }
    }

    fn test(&self) -> &TestApp {
        &self.market.test
    }

    fn token(&self) -> String {
        let tokens = &self.test().app.rental_tokens;
        tokens.mint(self.rental).expose().clone()
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v1/rentals/{}/{rest}", self.rental)
    }

    /// A WebSocket, or the status of who refused it.
    async fn socket(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<WebSocketStream<TcpStream>, u16> {
        let url = format!("ws://{}{path}", self.host);
        let mut request = url.into_client_request().expect("a request");
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a name");
            let value = HeaderValue::from_str(value).expect("a value");
            request.headers_mut().insert(name, value);
        }
        let connection = TcpStream::connect(&self.host).await.expect("connected");
        match client_async(request, connection).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// The same as whoever holds the rental's token.
    async fn own_socket(&self, rest: &str) -> WebSocketStream<TcpStream> {
        let bearer = format!("Bearer {}", self.token());
        let socket = self
            .socket(&self.path(rest), &[("authorization", &bearer)])
            .await;
        socket.expect("a socket")
    }

    /// Returns when no stream is open.
    async fn until_no_stream(&self) {
        let gateway = &self.test().app.gateway;
        let mut look = interval(Duration::from_millis(20));
        let none = async {
            while gateway.open_streams() > 0 {
                look.tick().await;
            }
        };
        timeout(PATIENCE, none).await.expect("streams end");
    }
}

/// A rental of somebody with an account; with their access token.
async fn rented_by_account(place: &mut Place) -> (RentalId, String) {
    let market = &mut place.market;
    let token = market.test.signup("consumer@example.org", &[]).await;
    let order = market.order(600);
    let bought = Payer::numbered(2)
        .buy(&market.test, "/api/v1/rentals", &token, &order)
        .await;
    let rental = crate::testing::market::rental_of(&bought);
    market.node.beat(&market.test).await;
    market.node.start(rental);
    market.node.beat(&market.test).await;
    (rental, token)
}
