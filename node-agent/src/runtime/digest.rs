//! Which digest stands for an image: the registry's, if it came from one.

/// Digest of an image that is known to Docker as `image_id`, wanted by `reference`, with Docker's `RepoDigests`
/// (`busybox@sha256:…`, `127.0.0.1:5000/a/b@sha256:…`).
pub(super) fn of_image(reference: &str, image_id: &str, repo_digests: &[String]) -> String {
    // what was fetched by its digest is that
    if let Some((_, digest)) = reference.split_once('@') {
        return digest.to_owned();
    }
    let wanted = repository(reference);
    repo_digests
        .iter()
        .filter_map(|known| known.split_once('@'))
        .find(|(name, _)| repository(name) == wanted)
        .map_or_else(|| image_id.to_owned(), |(_, digest)| digest.to_owned())
}

/// The part of a reference before tag and digest, without the names that Docker Hub leaves out.
fn repository(reference: &str) -> &str {
    let name = without_tag(reference.split('@').next().unwrap_or(reference));
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

fn without_tag(name: &str) -> &str {
    let last_part = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[last_part..].find(':') {
        Some(colon) => &name[..last_part + colon],
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_the_wanted_repository_is_taken() {
        let known = [
            "other@sha256:0".to_owned(),
            "busybox@sha256:1".to_owned(),
            "127.0.0.1:5000/busybox@sha256:2".to_owned(),
        ];
        for (reference, digest) in [
            ("busybox:latest", "sha256:1"),
            ("docker.io/library/busybox", "sha256:1"),
            ("127.0.0.1:5000/busybox:1", "sha256:2"),
            ("127.0.0.1:5001/busybox:1", "sha256:id"),
            ("imported", "sha256:id"),
            ("127.0.0.1:5000/busybox@sha256:3", "sha256:3"),
        ] {
            assert_eq!(
                of_image(reference, "sha256:id", &known),
                digest,
                "{reference}"
            );
        }
    }
}
