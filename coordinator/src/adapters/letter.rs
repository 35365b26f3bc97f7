//! A letter as an Internet message (RFC 5322): plain text, a date, and a message id that stays the same at every attempt.

use std::time::{Duration, UNIX_EPOCH};

use lettre::{
    Message,
    message::{
        Body, Mailbox,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
};

use crate::domain::mail::ports::{Letter, MailError};

/// RFC 5322, 2.1.1.
const LINE_BYTES_MAX: usize = 998;

/// Writes `letter` as coming from `from`.
pub(super) fn message(letter: &Letter, from: &Mailbox) -> Result<Message, MailError> {
    let never = |error: &dyn std::fmt::Display| MailError::Never(error.to_string());
    let to = letter
        .to
        .as_str()
        .parse()
        .map_err(|error: lettre::address::AddressError| never(&error))?;
    let seconds = u64::try_from(letter.written.as_secs()).unwrap_or(0);
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(&letter.subject)
        .date(UNIX_EPOCH + Duration::from_secs(seconds))
        .message_id(Some(format!("<{}@{}>", letter.id, from.email.domain())))
        // no vacation notes in answer to a machine (RFC 3834)
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .header(ContentType::TEXT_PLAIN)
        .body(body(letter.text.expose()))
        .map_err(|error| never(&error))
}

/// Plain ASCII goes as it is, so that a link stays in one piece for whoever looks at the raw mail; the rest is encoded.
fn body(text: &str) -> Body {
    let fits = |line: &str| line.len() <= LINE_BYTES_MAX;
    if text.is_ascii() && !text.contains(['\0', '\r']) && text.lines().all(fits) {
        let lines = text.replace('\n', "\r\n").into_bytes();
        Body::dangerous_pre_encoded(lines, ContentTransferEncoding::SevenBit)
    } else {
        Body::new(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use shared::{id::Ids, secret::Secret, time::Timestamp};

    use super::*;
    use crate::domain::mail::Email;

    fn formatted(text: &str) -> String {
        let letter = Letter {
            id: Ids::counting().mint(),
            to: Email::parse("ada@example.org").expect("fine"),
            subject: "A subject".to_owned(),
            text: Secret::new(text.to_owned()),
            written: Timestamp::from_secs(1_800_000_000),
        };
        let from = "RAMarket <no-reply@market.example>".parse().expect("fine");
        let message = message(&letter, &from).expect("a message");
        String::from_utf8(message.formatted()).expect("text")
    }

    #[test]
    fn a_long_link_stays_in_one_piece() {
        let link = format!("https://market.example/?token={}", "x".repeat(100));
        let mail = formatted(&format!("Open\n\n{link}\n"));
        assert!(
            mail.contains(&format!("\r\n\r\nOpen\r\n\r\n{link}\r\n")),
            "{mail}"
        );
        for header in [
            "To: ada@example.org\r\n",
            "Subject: A subject\r\n",
            "Message-ID: <mai_00000000000000000000000000000001@market.example>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n",
        ] {
            assert!(mail.contains(header), "{header} in {mail}");
        }
        // what can't go as it is still goes
        assert!(formatted("\u{fc}").is_ascii());
        assert!(
            formatted(&"x".repeat(2_000))
                .lines()
                .all(|line| line.len() < 1_000)
        );
    }
}
