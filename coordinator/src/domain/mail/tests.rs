//! Tests of the outbox: with its change, sealed, tried again, given up.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;

use super::{
    Delivered, Email, Mail, Postbox,
    model::ATTEMPTS_MAX,
    ports::{Letter, MailError, Mailer},
    queue,
};
use crate::{
    error::Error,
    testing::{TestApp, dump, on_both_stores},
};

/// Answers as it is told to, then takes everything.
#[derive(Debug, Default)]
struct Scripted {
    answers: Mutex<VecDeque<MailError>>,
    taken: Mutex<Vec<Letter>>,
}

#[async_trait]
impl Mailer for Scripted {
    async fn send(&self, letter: &Letter) -> Result<(), MailError> {
        match self.answers.lock().unwrap().pop_front() {
            Some(error) => Err(error),
            None => {
                self.taken.lock().unwrap().push(letter.clone());
                Ok(())
            }
        }
    }
}

fn postbox(test: &TestApp, answers: &[MailError]) -> (Arc<Postbox>, Arc<Scripted>) {
    let mailer = Arc::new(Scripted {
        answers: Mutex::new(answers.iter().cloned().collect()),
        taken: Mutex::default(),
    });
    let postbox = Postbox {
        db: test.app.db.clone(),
        clock: Arc::clone(&test.app.clock),
        mailer: Arc::clone(&mailer) as Arc<dyn Mailer>,
        public_url: test.app.config.http.public_url(),
        sealer: test.app.keys.token.sealer("test"),
    };
    (Arc::new(postbox), mailer)
}

fn mail() -> Mail {
    let to = Email::parse("ada@example.org").expect("fine");
    Mail::new(to, "A subject", "a-secret-link-in-it")
}

async fn post(test: &TestApp, postbox: &Arc<Postbox>, mail: Mail) {
    let (ctx, postbox) = (test.app.task_context("test"), Arc::clone(postbox));
    let body = move |tx: &mut dyn crate::store::Tx| queue(tx, &ctx, &postbox, &mail);
    test.app.db.write("test", body).await.expect("queued");
}

/// Whether any row of the database holds `text` in clear, as text or as bytes.
async fn rows_hold(test: &TestApp, text: &str) -> bool {
    let rows = format!("{:?}", dump::dump(&test.app.db, &[]).await);
    let bytes = format!("{:?}", text.as_bytes());
    rows.contains(text) || rows.contains(bytes.trim_matches(['[', ']']))
}

fn later() -> MailError {
    MailError::Later("451 try\r\nlater".to_owned())
}

on_both_stores!(
    a_mail_is_sent_once_and_its_text_is_never_in_clear,
    what_fails_is_tried_again_and_then_given_up,
    of_two_who_send_one_does,
);

async fn a_mail_is_sent_once_and_its_text_is_never_in_clear(test: TestApp) {
    let (postbox, mailer) = postbox(&test, &[]);
    post(&test, &postbox, mail()).await;
    assert!(rows_hold(&test, "A subject").await);
    assert!(!rows_hold(&test, "a-secret-link").await);
    let sent = Delivered {
        sent: 1,
        ..Delivered::default()
    };
    assert_eq!(postbox.deliver().await.expect("ran"), sent);
    assert_eq!(postbox.deliver().await.expect("ran"), Delivered::default());
    let taken = mailer.taken.lock().unwrap().clone();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].text.expose(), "a-secret-link-in-it");
    assert_eq!(taken[0].to.as_str(), "ada@example.org");
    // kept for a while, without its text, and then forgotten
    test.clock.advance_ms(super::KEPT_MS + 1);
    assert_eq!(postbox.deliver().await.expect("ran").forgotten, 1);
    assert!(!rows_hold(&test, "A subject").await);
    // what the change takes back is never sent
    let (ctx, own) = (test.app.task_context("test"), Arc::clone(&postbox));
    let undone = test.app.db.write("test", move |tx| {
        queue(tx, &ctx, &own, &mail())?;
        Err::<(), _>(Error::not_found("thing"))
    });
    undone.await.expect_err("taken back");
    assert_eq!(postbox.deliver().await.expect("ran"), Delivered::default());
}

async fn what_fails_is_tried_again_and_then_given_up(test: TestApp) {
    let attempts = usize::try_from(ATTEMPTS_MAX).expect("few");
    let mut answers = vec![later(); attempts];
    answers.push(MailError::Never("550 no such box".to_owned()));
    let (postbox, mailer) = postbox(&test, &answers);
    post(&test, &postbox, mail()).await;
    let first = postbox.deliver().await.expect("ran");
    assert_eq!((first.put_off, first.given_up), (1, 0));
    // not before its time
    test.clock.advance_ms(29_999);
    assert_eq!(postbox.deliver().await.expect("ran"), Delivered::default());
    test.clock.advance_ms(1);
    assert_eq!(postbox.deliver().await.expect("ran").put_off, 1);
    for _ in 2..ATTEMPTS_MAX - 1 {
        test.clock.advance_ms(4 * 3_600_000);
        assert_eq!(postbox.deliver().await.expect("ran").put_off, 1);
    }
    test.clock.advance_ms(4 * 3_600_000);
    assert_eq!(postbox.deliver().await.expect("ran").given_up, 1);
    assert!(rows_hold(&test, "given_up").await && rows_hold(&test, "451 try  later").await);
    // refused for good, and nobody's any more
    post(&test, &postbox, mail()).await;
    assert_eq!(postbox.deliver().await.expect("ran").given_up, 1);
    let soon = test.app.task_context("test").now.plus_ms(1_000);
    post(&test, &postbox, mail().until(soon)).await;
    test.clock.advance_ms(1_000);
    assert_eq!(postbox.deliver().await.expect("ran").given_up, 1);
    assert!(mailer.taken.lock().unwrap().is_empty());
}

async fn of_two_who_send_one_does(test: TestApp) {
    let (postbox, mailer) = postbox(&test, &[]);
    for _ in 0..5 {
        post(&test, &postbox, mail()).await;
    }
    let (one, two) = tokio::join!(postbox.deliver(), postbox.deliver());
    assert_eq!(one.expect("ran").sent + two.expect("ran").sent, 5);
    assert_eq!(mailer.taken.lock().unwrap().len(), 5);
}
