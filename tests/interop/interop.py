"""Both ways between kubectl-weightlock and the Python reference, for every method and hash that both know, with a key and
with a certificate; and each time the same again with one byte changed, which must be refused.

What the reference cannot do (1.1.1), and what is done instead:
- its command line always verifies as files and sha256, so that its Python API is used;
- its API has no way to find out the method of a bundle with blake2b or with shards, so that it is told;
- it compares the names of algorithms besides the digests, and calls that of a shard "sha256-sharded-SIZE" where the
  specification has "sha256": for our shards its signature check and its digests are used, the name is left out;
- it has no shards of blake3.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

from model_signing import hashing, signing, verifying
from model_signing._signing import sign_sigstore_pb

PROGRAM = sys.argv[1]
SHARD = 1 << 20
# Identifier, and what the reference's API calls it.
HASHES = {"sha256": "sha256", "blake2b": "blake2", "blake3": "blake3"}
CASES = [("files", "sha256"), ("files", "blake2b"), ("files", "blake3"), ("shards", "sha256"), ("shards", "blake2b")]
CURVES = {"P-256": "prime256v1", "P-384": "secp384r1", "P-521": "secp521r1"}
IDENTITY = "release@example.com"
failed = []
passed = 0


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


def keys(directory):
    for curve, name in CURVES.items():
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{name}", "-out", f"{curve}.pem", cwd=directory)
        openssl("pkey", "-in", f"{curve}.pem", "-pubout", "-out", f"{curve}.pub", cwd=directory)
    # Encrypted, and in the older form.
    openssl("pkcs8", "-topk8", "-in", "P-256.pem", "-passout", "pass:secret", "-out", "encrypted.pem", cwd=directory)
    openssl("ec", "-in", "P-256.pem", "-out", "sec1.pem", cwd=directory)
    (directory / "password").write_text("secret\n")
    extensions = {
        "ca": "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n",
        "leaf": "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        f"extendedKeyUsage=codeSigning\nsubjectAltName=email:{IDENTITY}\nsubjectKeyIdentifier=hash\n",
    }
    for kind, text in extensions.items():
        (directory / f"{kind}.ext").write_text(text + ("authorityKeyIdentifier=keyid\n" if kind == "leaf" else ""))
    for name, kind, by in (("root", "ca", None), ("middle", "ca", "root"), ("leaf", "leaf", "middle")):
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", f"{name}.key", cwd=directory)
        openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr", cwd=directory)
        by_whom = ["-signkey", "root.key"] if by is None else ["-CA", f"{by}.crt", "-CAkey", f"{by}.key", "-CAcreateserial"]
        openssl("x509", "-req", "-in", f"{name}.csr", "-days", "2", "-extfile", f"{kind}.ext", *by_whom, "-out", f"{name}.crt", cwd=directory)


def model(directory):
    """A model whose order by steps of the path is not that by code points, and with a file of no bytes."""
    (directory / "a").mkdir(parents=True)
    (directory / "a" / "b").write_bytes(b"slash\n")
    (directory / "a.b").write_bytes(b"dot\n")
    (directory / "empty").write_bytes(b"")
    (directory / "weights.bin").write_bytes(bytes((i * i + 7 * i) % 251 for i in range(2 * SHARD + 12345)))
    return directory


def config(method, name):
    made = hashing.Config()
    if method == "files":
        return made.use_file_serialization(hashing_algorithm=HASHES[name])
    return made.use_shard_serialization(hashing_algorithm=HASHES[name], shard_size=SHARD)


def tamper(directory):
    path = directory / "weights.bin"
    content = bytearray(path.read_bytes())
    content[2 * SHARD + 5] ^= 1
    path.write_bytes(content)


class Refused(Exception):
    """kubectl-weightlock said no."""


def case(name, expected, check):
    global passed
    text = ""
    try:
        check()
        outcome = "accepted"
    except (Refused, ValueError) as error:  # the reference refuses by ValueError
        outcome, text = "refused", str(error).strip()
    except Exception as error:
        outcome, text = "broken", f"{type(error).__name__}: {error}"
    if outcome == expected:
        passed += 1
        print(f"ok    {name}: {outcome}")
    else:
        failed.append(name)
        print(f"FAIL  {name}: {outcome}, expected {expected} {text}")


def ours(*arguments, code=None):
    """Runs kubectl-weightlock; with a code, a refusal has to have it."""
    ran = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    if ran.returncode == 0:
        return
    if ran.returncode not in (code, None) and code is not None:
        raise RuntimeError(f"exit code {ran.returncode}, not {code}: {ran.stdout}{ran.stderr}")
    raise Refused(f"exit code {ran.returncode}: {ran.stdout}{ran.stderr}")


def reference_verifies(verifier, directory, signature, method, name):
    made = config(method, name).set_ignored_paths(paths=[signature.name], ignore_git_paths=True)
    if method == "files":
        verifier.set_hashing_config(made).verify(directory, signature)
        return
    signed = verifier._verifier.verify(sign_sigstore_pb.Signature.read(signature))
    found = made.hash(directory)

    def plain(manifest):
        return {key: digest.digest_value for key, digest in manifest._item_to_digest.items()}

    if plain(signed) != plain(found):
        raise ValueError("Signature mismatch")


def main():
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        keys(work)
        material = {f"key {curve}": (curve, None) for curve in CURVES}
        material["certificate"] = ("leaf", "certificate")
        for method, name in CASES:
            for label, (key, kind) in material.items():
                if label not in ("key P-256", "certificate") and (method, name) != ("files", "sha256"):
                    continue
                title = f"{method} {name}, {label}"
                private = work / (f"{key}.pem" if kind is None else f"{key}.key")
                signer = ["--private-key", private] + (
                    [] if kind is None else ["--certificate", work / "leaf.crt", "--certificate-chain", work / "middle.crt"])
                trust = ["--public-key", work / f"{key}.pub"] if kind is None else \
                    ["--certificate-roots", work / "root.crt", "--identity", IDENTITY]
                verifier = lambda: verifying.Config().use_elliptic_key_verifier(public_key=work / f"{key}.pub") if kind is None \
                    else verifying.Config().use_certificate_verifier(certificate_chain=[work / "root.crt"])

                directory = model(work / "ours")
                signature = directory / "model.sig"
                shards = ["--shard-size", SHARD] if method == "shards" else []
                case(f"signed by us: {title}", "accepted",
                     lambda: ours("sign", directory, *signer, "--method", method, "--hash", name, *shards))
                case(f"signed by us, verified by the reference: {title}", "accepted",
                     lambda: reference_verifies(verifier(), directory, signature, method, name))
                case(f"signed by us, verified by us: {title}", "accepted",
                     lambda: ours("verify", directory, "--signature", "model.sig", *trust))
                tamper(directory)
                case(f"signed by us, changed, verified by the reference: {title}", "refused",
                     lambda: reference_verifies(verifier(), directory, signature, method, name))
                case(f"signed by us, changed, verified by us: {title}", "refused",
                     lambda: ours("verify", directory, "--signature", "model.sig", *trust, code=20))
                shutil.rmtree(directory)

                directory = model(work / "theirs")
                signature = directory / "model.sig"
                made = signing.Config().set_hashing_config(
                    config(method, name).set_ignored_paths(paths=["model.sig"], ignore_git_paths=True))
                if kind is None:
                    made.use_elliptic_key_signer(private_key=private)
                else:
                    made.use_certificate_signer(private_key=private, signing_certificate=work / "leaf.crt",
                                                certificate_chain=[work / "middle.crt"])
                made.sign(directory, signature)
                case(f"signed by the reference, verified by us: {title}", "accepted",
                     lambda: ours("verify", directory, "--signature", "model.sig", *trust))
                ran = subprocess.run([PROGRAM, "digest", directory, "-o", "digest", "--write-manifest"], capture_output=True, text=True)
                case(f"signed by the reference, with a digest: {title}", "accepted",
                     lambda: ours("verify", directory, "--signature", "model.sig", "--digest", ran.stdout.strip(), *trust))
                tamper(directory)
                case(f"signed by the reference, changed, verified by us: {title}", "refused",
                     lambda: ours("verify", directory, "--signature", "model.sig", *trust, code=20))
                shutil.rmtree(directory)

        directory = model(work / "forms")
        for label, options in {"encrypted": ["encrypted.pem", "--password-file", work / "password"], "SEC 1": ["sec1.pem"]}.items():
            key = ["--private-key", work / options[0], *options[1:]]
            case(f"signed by us with a key that is {label}", "accepted", lambda: ours("sign", directory, *key))
            case(f"verified by the reference: {label}", "accepted", lambda: reference_verifies(
                verifying.Config().use_elliptic_key_verifier(public_key=work / "P-256.pub"), directory, directory / "model.sig", "files", "sha256"))
        case("another key", "refused", lambda: ours(
            "verify", directory, "--signature", "model.sig", "--public-key", work / "P-384.pub", code=16))
        openssl("genpkey", "-algorithm", "ED25519", "-out", "ed25519.pem", cwd=work)
        case("a key of another type", "refused", lambda: ours("sign", directory, "--private-key", work / "ed25519.pem", code=2))

    print(f"test result: {'FAILED' if failed else 'ok'}. {passed} passed; {len(failed)} failed; 0 ignored")
    return 1 if failed else 0


sys.exit(main())
