import random

import pytest
import yaml

from ddsp_cli.checksum import TEXT_MARK, is_altered, seal, seal_text, sha256, unseal


def test_a_sealed_text_is_still_yaml_and_ends_of_lines_may_change():
    sealed = seal_text("a: 1\nb: é\n")
    assert yaml.safe_load(sealed) == {"a": 1, "b": "é"}
    assert not is_altered(sealed)
    assert not is_altered(sealed.replace("\n", "\r\n"))
    assert not is_altered("a: 1\n"), "a text without a digest is read as it is"


def test_every_flipped_bit_of_a_sealed_text_is_noticed():
    sealed = seal_text("name: flute\nlowest_hz: 220.0\n").encode()
    hash_sign = sealed.rindex(TEXT_MARK.encode())  # without it, the line is no comment and no YAML either
    for byte in [*range(hash_sign), *range(hash_sign + 1, len(sealed) - 1)]:
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[byte] ^= 1 << bit
            assert is_altered(flipped.decode("utf-8", "replace")), (byte, bit)
    assert not is_altered("a: 1\n# written by hand\n")


def test_every_flipped_bit_of_sealed_bytes_is_noticed():
    sealed = seal(bytes(range(256)))
    assert unseal(sealed) == bytes(range(256))
    for byte in range(len(sealed)):
        flipped = bytearray(sealed)
        flipped[byte] ^= 1 << random.Random(byte).randrange(8)
        with pytest.raises(ValueError, match="digest"):
            unseal(bytes(flipped))
    for cut in (0, 10, 64, 65, len(sealed) - 1):
        with pytest.raises(ValueError, match="digest"):
            unseal(sealed[:cut])


def test_the_digest_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
