package eventstore

import "encoding/binary"

// leafFormat is the leading byte of a leaf, raised when the encoding changes.
const leafFormat = 1

// Leaf returns the bytes by which r enters a Merkle log: a leading format byte,
// then ID, stream, version, type, schema, tags, Meta and Data, each behind its
// length. It has no position and no time, so that the same history is the same
// tree in every store.
//
// Lengths are 4 bytes, version and schema 8, all big
// endian; the tags field holds each tag behind its own length.
func (r Recorded) Leaf() []byte {
	tags := 0
	for _, tag := range r.Tags {
		tags += 4 + len(tag)
	}
	size := 1 + 8*4 + len(r.ID) + len(r.Stream) + 8 + len(r.Type) + 8 + tags + len(r.Meta) + len(r.Data)
	b := make([]byte, 0, size)
	b = append(b, leafFormat)
	b = field(b, r.ID[:])
	b = field(b, r.Stream)
	b = binary.BigEndian.AppendUint64(length(b, 8), r.Version)
	b = field(b, r.Type)
	b = binary.BigEndian.AppendUint64(length(b, 8), uint64(r.Schema))
	b = length(b, tags)
	for _, tag := range r.Tags {
		b = field(b, tag)
	}
	b = field(b, r.Meta)
	return field(b, r.Data)
}

func length(b []byte, n int) []byte { return binary.BigEndian.AppendUint32(b, uint32(n)) }

func field[T string | []byte](b []byte, v T) []byte { return append(length(b, len(v)), v...) }
