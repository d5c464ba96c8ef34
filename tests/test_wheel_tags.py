"""Which wheels run where, by their names."""

import pytest

from buildlib.steps.tags import fits


@pytest.mark.parametrize(
    ("tags", "python", "platform"),
    [
        ("py3-none-any", "3.12", "linux/amd64"),
        ("py2.py3-none-any", "3.12.4", "linux/arm64"),
        ("py311-none-any", "3.12", "linux/amd64"),
        ("cp312-cp312-linux_x86_64", "3.12", "linux/amd64"),
        ("cp312-cp312-linux_x86_64", "3.12.9", "linux/amd64"),
        ("cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64", "3.12", "linux/amd64"),
        ("cp312-cp312-manylinux_2_41_aarch64", "3.12", "linux/arm64"),
        ("cp38-abi3-manylinux2010_x86_64", "3.13", "linux/amd64"),
        ("py3-none-manylinux_2_28_x86_64", "3.11", "linux/amd64"),
        ("cp312-none-any", "3.12", "linux/amd64"),
    ],
)
def test_a_wheel_whose_tags_the_image_has_fits(tags: str, python: str, platform: str) -> None:
    assert fits(f"a_b-1.0-{tags}.whl", python, platform)


@pytest.mark.parametrize(
    ("tags", "python", "platform"),
    [
        ("cp311-cp311-linux_x86_64", "3.12", "linux/amd64"),
        ("cp312-cp312-linux_x86_64", "3.12", "linux/arm64"),
        ("cp312-cp312-linux_aarch64", "3.12", "linux/amd64"),
        ("cp312-cp312-musllinux_1_2_x86_64", "3.12", "linux/amd64"),
        ("cp312-cp312-macosx_14_0_arm64", "3.12", "linux/arm64"),
        ("cp312-cp312-win_amd64", "3.12", "linux/amd64"),
        ("cp313-abi3-linux_x86_64", "3.12", "linux/amd64"),
        ("py313-none-any", "3.12", "linux/amd64"),
        ("py2-none-any", "3.12", "linux/amd64"),
        ("pp310-pypy310_pp73-linux_x86_64", "3.10", "linux/amd64"),
        ("cp313-cp313t-linux_x86_64", "3.13", "linux/amd64"),
    ],
)
def test_a_wheel_for_another_python_machine_or_libc_does_not_fit(tags: str, python: str, platform: str) -> None:
    assert not fits(f"a_b-1.0-{tags}.whl", python, platform)
