#!/bin/sh
# Writes the walk-through's weights below a directory: the same bytes each time, so that their digest is known beforehand.
#
#   make-weights.sh DIR         DIR/orion-70b, a faithful copy in DIR/orion-70b-copy, and an empty DIR/scratch
#   make-weights.sh tamper DIR  changes one byte in the copy
set -eu

tamper=no
if [ "${1:-}" = tamper ]; then
	tamper=yes
	shift
fi
[ $# -eq 1 ] && [ -d "$1" ] || { echo "usage: make-weights.sh [tamper] DIR, where DIR is a directory that exists" >&2; exit 2; }
copy=$1/orion-70b-copy

if [ $tamper = yes ]; then
	[ -e "$copy" ] || { echo "make-weights.sh: $copy does not exist: run make-weights.sh $1 first" >&2; exit 1; }
	printf '!' | dd of="$copy/model-00002-of-00002.safetensors" bs=1 seek=4194304 conv=notrunc 2>/dev/null
	echo "changed byte 4194304 of $copy/model-00002-of-00002.safetensors"
	exit 0
fi

# shard FILE TENSOR: a safetensors file with one tensor of 8 MiB: length of the header, header, data.
shard() {
	{
		printf '\130\0\0\0\0\0\0\0'
		printf '%-88s' "{\"$2\":{\"dtype\":\"F16\",\"shape\":[2048,2048],\"data_offsets\":[0,8388608]}}"
		yes "$2 of a model that nobody trained" | head -c 8388608
	} >"$1"
}

for dir in "$1/orion-70b" "$copy"; do
	rm -rf "$dir"
	mkdir -p "$dir"
	shard "$dir/model-00001-of-00002.safetensors" layers.0.weight
	shard "$dir/model-00002-of-00002.safetensors" layers.1.weight
	printf '%s\n' '{"architectures":["OrionForCausalLM"],"hidden_size":2048,"num_hidden_layers":2}' >"$dir/config.json"
	printf '%s\n' '{"version":"1.0","model":{"type":"BPE","vocab":{},"merges":[]}}' >"$dir/tokenizer.json"
done
mkdir -p "$1/scratch"
chmod -R a+rX "$1/orion-70b" "$copy" "$1/scratch"
echo "wrote $(du -sh "$1/orion-70b" | cut -f 1) to $1/orion-70b, and a copy beside it"
