//! The problem codes of images: what isn't sold, what isn't run, what a registry says.

use super::Code;

const NOT_SERVED: Code = (
    409,
    "consumer_not_served",
    "this node's owner doesn't rent to you: choose another offer",
);
/// Why an image isn't sold, or isn't run at a node.
const IMAGE: &[Code] = &[
    NOT_SERVED,
    (
        409,
        "registry_not_allowed",
        "images of the registry 192.168.1.1:5000 aren't run there: use one of another registry",
    ),
    (
        409,
        "image_not_allowed",
        "the image docker.io/library/busybox:latest isn't run there: use another image or another offer",
    ),
    (
        409,
        "image_not_found",
        "ghcr.io/owner/name:1: the registry doesn't have it, or doesn't show it to everybody; check its name, or give registry_auth if it is private",
    ),
    (
        409,
        "registry_auth_refused",
        "ghcr.io/owner/name:1: the registry doesn't take these credentials; check registry_auth, and that it may pull this image",
    ),
    (
        409,
        "image_too_large",
        "the image has 130 layers: at most 127 are run there",
    ),
    (
        409,
        "image_not_for_platform",
        "ghcr.io/owner/name:1: it is made for linux/arm64; choose another image, or a node of that platform",
    ),
    (
        409,
        "image_not_supported",
        "ghcr.io/owner/name:1: its manifest isn't understood",
    ),
    (
        503,
        "registry_unavailable",
        "the registry ghcr.io can't be asked for the image now: it takes too long",
    ),
];

/// What operations answer besides.
pub(super) const OWN: &[(&str, &[Code])] = &[
    ("create_quote", &[NOT_SERVED]),
    ("create_rental", IMAGE),
    ("authorize_payment", IMAGE),
];
