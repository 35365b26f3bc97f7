//! Tests of ID tokens by RSA, whose keys ring doesn't make: signed once with OpenSSL, and the key thrown away. Tokens by the
//! other algorithms, and hostile ones, come from the issuer in `oidc/tests`.

use serde_json::json;

use super::*;

/// Modulus of the key.
const N: &str = "qJ4Z0io3wmCcU6BemvHNGvPmWGlzh3KjronUsBWkDB-mHvjcR0aXEgr0E-mRGcV50bnrbrbbUSjbE1kwsdmHi9RfR7QSORJrlsdt\
    m0-lmrDXA9ANqqFG30pXSyPplUufWMsoVtX9s2Faz-GXDOpMx_6kkaRQ691XyJAG5Q0chqw6lsiDtJz6mbckpxSMKQEnFiWdGgrX\
    KNVAdWYD7C09YyzX5g36lqD-6a1wVFGYPcLulpsYyKKDQ2p08rr4KhPkGlj7PJ6bB8lg0dcIoXuUz1j4jnXnaFT4xxmvVMwq3nbs\
    KfOnpVqF4afH_BSfagt0OS4hiWRZ3AsWfmYGJJpcTw";
const HEADER: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9";
/// For `us` from `https://issuer.example`, made at 1 800 000 000.
const CLAIMS: &str = "eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjoidXMiLCJzdWIiOiJhZGEiLCJpYXQiOjE4MDAwMDAwMDAsImV4\
    cCI6MTgwMDAwMDMwMCwibm9uY2UiOiJuIiwiZW1haWwiOiJhZGFAZXhhbXBsZS5vcmciLCJlbWFpbF92ZXJpZmllZCI6InRydWUi\
    fQ";
const SIGNATURE: &str = "ENr6QObtuM-cFm7sjqShUHdd606GN8x0m4h0jqBA2214ECsCc4vYvW2a3DC50XrthJN2bTmBE5XWxXvHQ1j2Ok-uXKmGAhw3-pym\
    sXAvqHXUNv_fpO8_ZERRmMgEmhmWvMFC_POYP3RmGqn5MPu1ZuCB5eRmPSLy53-8gIK4B4mVLfSliHqQ8KgDLMjhutLQRaIGDZFP\
    2yvGVFJY9xXOXuRcXNyUpsYqEw_kHF_J9Y3pVnG1MafM4p4AKNMefydzeGkduxfEoI5mSbk6gQT7Ue5aF1_CgpxYAdydcUeSUSiu\
    jkymdOFCLBq0ys2tvyGWTWne4JrHjE_cbibhcPtV2Q";

fn keys(n: &str, alg: &str) -> Option<Jwks> {
    let key = json!({"kty": "RSA", "kid": "rsa", "use": "sig", "alg": alg, "n": n, "e": "AQAB"});
    Jwks::parse(json!({"keys": [key]}).to_string().as_bytes())
}

fn checked(token: &str, n: &str, algs: &[Alg], now_s: i64) -> Result<Person, Flaw> {
    let expected = Expected {
        issuer: "https://issuer.example",
        client_id: "us",
        algs,
        nonce: "n",
        access_token: None,
        now: Timestamp::from_secs(now_s),
    };
    check(token, &keys(n, "RS256").expect("a key"), &expected)
}

#[test]
fn a_token_by_rsa_holds_and_a_changed_one_does_not() {
    let token = format!("{HEADER}.{CLAIMS}.{SIGNATURE}");
    let all = [Alg::EdDsa, Alg::Rs256];
    let person = checked(&token, N, &all, 1_800_000_010).expect("it holds");
    assert_eq!((person.subject.as_str(), person.proven), ("ada", None));
    assert_eq!(person.email.expect("told").as_str(), "ada@example.org");
    assert!(person.email_verified, "told as text");
    // a modulus with a leading zero is the same number
    let zeroed = BASE64URL.encode([&[0][..], &BASE64URL.decode(N).expect("text")].concat());
    checked(&token, &zeroed, &all, 1_800_000_010).expect("it holds");

    let refused =
        |token: &str, algs: &[Alg], now_s| checked(token, N, algs, now_s).expect_err("refused");
    assert_eq!(
        refused(&token, &[Alg::EdDsa], 1_800_000_010),
        Flaw::Algorithm
    );
    assert_eq!(refused(&token, &all, 1_800_000_330), Flaw::Time);
    assert_eq!(refused(&token, &all, 1_799_999_969), Flaw::Age);
    let changed = BASE64URL.encode(
        String::from_utf8(BASE64URL.decode(CLAIMS).expect("text"))
            .expect("json")
            .replace("ada", "eve"),
    );
    let other = format!("{HEADER}.{changed}.{SIGNATURE}");
    assert_eq!(refused(&other, &all, 1_800_000_010), Flaw::Signature);
    let none = BASE64URL.encode(r#"{"alg":"none"}"#);
    assert_eq!(
        refused(&format!("{none}.{CLAIMS}."), &all, 1_800_000_010),
        Flaw::Algorithm
    );
    for junk in ["", ".", "..", "a.b.c", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
        assert_eq!(refused(junk, &all, 1_800_000_010), Flaw::Unreadable);
    }
}

#[test]
fn weak_and_huge_rsa_keys_are_none() {
    let of = |bytes: usize| keys(&BASE64URL.encode(vec![0xff; bytes]), "RS256");
    assert!(of(RSA_BYTES + 1).is_none());
    // one of 1024 bits is kept, and verifies nothing
    let token = format!("{HEADER}.{CLAIMS}.{SIGNATURE}");
    let weak = BASE64URL.encode(vec![0xff; 128]);
    assert_eq!(
        checked(&token, &weak, &[Alg::Rs256], 1_800_000_010),
        Err(Flaw::Signature)
    );
    assert!(keys(N, "PS256").is_none() && keys(N, "HS256").is_none());
}

/// 4096 bits.
const RSA_BYTES: usize = 512;
