#!/usr/bin/env bash
# An arm64 Python with the runtime's wheels, and an emulator to run it: prepare.sh FOLDER PYTHON
#
# Takes apt-get, dpkg and pip, no root, and leaves the system as it is. FOLDER/python is then an interpreter that
# can be used like any other; PYTHON, of the project's environment, says which versions of the wheels.
set -euo pipefail
folder=$(realpath -m "$1")
python=$(realpath -s "$2")
pinned=$(dirname "$0")/../../constraints.txt
constraints=$folder/constraints.txt
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=http://deb.debian.org/debian

# apt SUITE ARCHITECTURE ARGUMENT...: apt-get with lists, cache and status of its own.
apt() {
	local state=$folder/apt/$1-$2
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
	touch "$state/status"
	echo "deb [signed-by=$keyring] $mirror $1 main" > "$state/sources.list"
	apt-get -qq -o APT::Architecture="$2" -o APT::Architectures::="$2" -o Dir::State="$state" \
		-o Dir::State::status="$state/status" -o Dir::State::lists="$state/lists" -o Dir::Cache="$state/cache" \
		-o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=/dev/null -o APT::Sandbox::User= \
		-o Debug::NoLocking=1 "${@:3}"
}

for tool in apt-get dpkg; do
	command -v $tool > /dev/null || { echo "error: there is no $tool; this takes Debian or one of its kin"; exit 1; }
done
[ ! -e "$folder/python" ] || exit 0

# Under QEMU 7.2 of Debian 12, onnxruntime 1.32 crashes when it is imported; under 10.0 of Debian 13 it does not.
host=$(dpkg --print-architecture)
apt trixie "$host" update
apt trixie "$host" install --download-only --yes --no-install-recommends qemu-user > /dev/null
dpkg -x "$folder/apt/trixie-$host"/cache/archives/qemu-user_*.deb "$folder/qemu"

# Debian 12, because tflite-runtime has no wheel for a Python later than 3.11.
apt bookworm arm64 update
apt bookworm arm64 install --download-only --yes --no-install-recommends python3.11 libstdc++6 > /dev/null
for package in "$folder"/apt/bookworm-arm64/cache/archives/*.deb; do
	dpkg -x "$package" "$folder/root"
done

# Those of Python 3.11; pip would take those of the Python that it runs on.
sed -e '/; python_version >= /d' -e 's/;.*//' "$pinned" > "$constraints"
version() { sed -n "s/^$1==//Ip" "$constraints"; }
platforms=()
for libc in manylinux2014 manylinux_2_17 manylinux_2_27 manylinux_2_28 manylinux_2_34; do
	platforms+=(--platform "${libc}_aarch64")
done
wheels=()
for name in ai-edge-litert onnxruntime tflite-runtime numpy pillow typer onnx flatbuffers pytest pytest-timeout hypothesis; do
	wheels+=("$name==$(version $name)")
done
"$python" -m pip install --quiet --disable-pip-version-check --target "$folder/site" --only-binary=:all: \
	--python-version 3.11 --implementation cp "${platforms[@]}" --constraint "$constraints" "${wheels[@]}"

cat > "$folder/python.partial" <<END
#!/bin/sh
# Its own name goes along, so that a child process is emulated as well.
export PYTHONHOME=$folder/root/usr PYTHONPATH="$folder/site\${PYTHONPATH:+:\$PYTHONPATH}"
exec $folder/qemu/usr/bin/qemu-aarch64 -0 "\$0" -L $folder/root $folder/root/usr/bin/python3.11 "\$@"
END
chmod +x "$folder/python.partial"
mv "$folder/python.partial" "$folder/python"
