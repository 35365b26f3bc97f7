//! The problem codes that any operation may answer: of requests, of credentials, and of what is wrong with us.

use super::Code;

/// Any operation may answer these.
pub(super) const SHARED: &[Code] = &[
    (
        400,
        "query",
        "the query string has a parameter that this operation doesn't know; it takes none",
    ),
    (
        400,
        "malformed_json",
        "the body isn't JSON: expected value at line 1 column 1",
    ),
    (
        401,
        "sign_in_required",
        "sign in first: POST /api/v1/auth/login",
    ),
    (
        401,
        "session_ended",
        "this session was signed out or has ended: sign in again",
    ),
    (403, "forbidden", "this needs the role provider"),
    (
        403,
        "csrf",
        "a cookie counts here only with the header X-Requested-With: ramarket",
    ),
    (
        404,
        "not_found",
        "there is no such resource, or it isn't yours",
    ),
    (
        408,
        "body_too_slow",
        "the body wasn't here within 30 s: send it again",
    ),
    (
        412,
        "changed_meanwhile",
        "it was changed since you read it: read it again, and edit that",
    ),
    (
        413,
        "body_too_large",
        "a body may have at most 1048576 bytes",
    ),
    (414, "url_too_long", "a URL may have at most 8192 bytes"),
    (
        415,
        "content_type",
        "send the body as JSON with the header content-type: application/json",
    ),
    (422, "invalid", "/duration_seconds: more than zero"),
    (
        429,
        "too_many_attempts",
        "too many attempts (the limit named login); try again in 12 s",
    ),
    (
        431,
        "headers_too_large",
        "a request may have at most 64 headers of together 16384 bytes",
    ),
    (
        400,
        "bad_request",
        "the request lacks what this endpoint needs: see /api/docs",
    ),
    (
        400,
        "unexpected_body",
        "this operation takes no body: leave it out",
    ),
    (
        400,
        "body_unreadable",
        "the body ended early or can't be read",
    ),
    (400, "limit", "limit must be 1 to 100"),
    (
        400,
        "cursor",
        "use next_cursor of the page before, unchanged",
    ),
    (
        400,
        "if_match",
        "If-Match is an ETag as you got it, quotes included, or *",
    ),
    (
        401,
        "authorization",
        "send one header authorization: Bearer <token>",
    ),
    (
        401,
        "access_token",
        "the access token isn't valid, or no longer: refresh it or sign in again",
    ),
    (
        401,
        "rental_token",
        "the rental token isn't one of ours: copy it again",
    ),
    (
        401,
        "wallet_signature",
        "the signature isn't the wallet's: another key made it, or over another text",
    ),
    (
        401,
        "wallet_nonce",
        "the challenge isn't ours, is older than 5 min, or was used: ask for a new one at GET /api/v1/auth/wallet/challenge",
    ),
    (
        401,
        "cron_token",
        "the cron token opens the cron endpoints only",
    ),
    (
        401,
        "api_key",
        "the API key isn't known, or has ended: make a new one",
    ),
    (
        401,
        "api_key_malformed",
        "this isn't an API key: a character is wrong or missing, copy it again",
    ),
    (
        403,
        "api_key_address",
        "this API key isn't used from this address: its owner bound it to others",
    ),
    (
        403,
        "key_not_allowed",
        "an API key can't do this: sign in to do it",
    ),
    (
        403,
        "scope_required",
        "this API key lacks the scope rentals:write",
    ),
];

/// And these, when something is wrong with us.
pub(super) const OURS: &[Code] = &[
    (
        500,
        "internal",
        "something failed on our side; it was logged",
    ),
    (
        503,
        "busy",
        "too much is going on at this moment; try again",
    ),
    (
        503,
        "timeout",
        "this took too long and was given up; look at the state of things before you try again",
    ),
];

/// Of an operation without a line for 409.
pub(super) const CONFLICT: Code = (409, "conflict", "the state of things doesn't allow it now");
