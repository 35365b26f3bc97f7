//! The problem codes of accounts: signing in, second factors, passwords, addresses, proof of identity.

use super::Code;

const STEP_UP: Code = (
    403,
    "step_up_required",
    "this needs a fresh proof of who you are: POST /api/v1/auth/step-up, then try again",
);
const PROOF_REFUSED: Code = (
    403,
    "proof_refused",
    "the password or the code is wrong; the session goes on as before",
);
const NO_PASSWORD: Code = (
    403,
    "no_password",
    "this account has no password: sign in again at your provider with prove_again=true, or set a password by \
     POST /api/v1/auth/password/forgot",
);
const SECOND_FACTOR: Code = (
    401,
    "second_factor_required",
    "send a code of the second factor and this challenge: POST /api/v1/auth/login/totp",
);
const DISABLED: Code = (
    403,
    "account_disabled",
    "an administrator disabled this account: write to the operator of this market",
);
const SECOND_FACTOR_SET: Code = (
    409,
    "second_factor_set",
    "a second factor is in force: DELETE /api/v1/auth/totp first",
);
const LINK_INVALID: Code = (
    422,
    "link_invalid",
    "this link was used already, is too old, or was replaced by a newer one: ask for a new one",
);

/// What one operation answers besides.
pub(super) const OWN: &[(&str, &[Code])] = &[
    (
        "signup",
        &[(
            409,
            "email_taken",
            "there is an account with this address: sign in instead",
        )],
    ),
    (
        "login",
        &[
            (
                401,
                "login_failed",
                "the e-mail address or the password is wrong",
            ),
            DISABLED,
            SECOND_FACTOR,
        ],
    ),
    (
        "login_totp",
        &[
            (
                401,
                "challenge_invalid",
                "this login took too long: begin it again with the password",
            ),
            (
                401,
                "code_refused",
                "the code is wrong, or was used already: wait for the next one",
            ),
            DISABLED,
        ],
    ),
    ("oidc_callback", &[DISABLED, SECOND_FACTOR]),
    (
        "step_up",
        &[
            PROOF_REFUSED,
            NO_PASSWORD,
            (
                403,
                "code_required",
                "this account has a second factor: send a code of it",
            ),
        ],
    ),
    (
        "change_password",
        &[
            PROOF_REFUSED,
            NO_PASSWORD,
            (
                409,
                "password_changed",
                "the password was changed by somebody else at this moment; sign in again",
            ),
        ],
    ),
    ("reset_password", &[LINK_INVALID]),
    ("verify_email", &[LINK_INVALID]),
    ("change_email", &[STEP_UP]),
    ("begin_totp", &[STEP_UP, SECOND_FACTOR_SET]),
    ("confirm_totp", &[STEP_UP, PROOF_REFUSED, SECOND_FACTOR_SET]),
    ("remove_totp", &[STEP_UP]),
    (
        "refresh",
        &[(
            401,
            "refresh_token",
            "the refresh token isn't valid, or no longer: sign in again",
        )],
    ),
    (
        "redeem_device_login",
        &[
            (
                400,
                "authorization_pending",
                "nobody has confirmed yet: ask again after the interval",
            ),
            (
                400,
                "slow_down",
                "asked too soon: wait 5 s longer between two questions",
            ),
            (400, "access_denied", "the person refused"),
            (
                400,
                "expired_token",
                "this code isn't known, was redeemed, or is older than 10 minutes: begin again",
            ),
            (
                409,
                "too_many_keys",
                "an account has at most 50 keys: end one that isn't used",
            ),
        ],
    ),
    (
        "submit_kyc",
        &[(
            409,
            "kyc_open",
            "your proof of identity is approved already or waits for a decision",
        )],
    ),
    (
        "decide_kyc",
        &[
            (
                409,
                "kyc_decided",
                "this case is rejected: it can't become approved",
            ),
            (
                409,
                "changed_meanwhile",
                "somebody decided this case in between: read it again",
            ),
        ],
    ),
    (
        "take_kyc_webhook",
        &[
            (
                401,
                "webhook_signature",
                "the webhook isn't signed by this provider's secret, or too old",
            ),
            (
                409,
                "kyc_decided",
                "this case is rejected: it can't become approved",
            ),
        ],
    ),
];
