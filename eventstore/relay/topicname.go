package relay

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxTopicName is the most that PostgreSQL keeps of a table's name, 63 bytes, less
// what Watermill puts before it: "watermill_offsets_". It cuts off the rest, and two
// topics would share a table.
const maxTopicName = 63 - len("watermill_offsets_")

// TopicName is a broker's topic for a name, such as an event type: "change_raised"
// for "change.raised". It has at most 45 bytes, and fits wherever Watermill makes a
// subject, a stream, a queue or a table of it. Letters, digits and "-" stay, "."
// becomes "_", any other byte "__" and its hex; what is too long is cut, with a hash
// behind it. Other names have other topics. Several names are joined by ".", which
// subjects, queues and tables may have, and streams of NATS JetStream may not:
// TopicName("log", "change.raised") is "log.change_raised".
func TopicName(names ...string) string {
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteByte('.')
		}
		for j := range len(name) {
			switch c := name[j]; {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
				b.WriteByte(c)
			case c == '.' && (j == 0 || name[j-1] != '.'): // two "_" begin the hex of a byte
				b.WriteByte('_')
			default:
				b.WriteString("__" + hex.EncodeToString([]byte{c}))
			}
		}
	}
	whole := b.String()
	if len(whole) <= maxTopicName {
		return whole
	}
	sum := sha256.Sum256([]byte(whole))
	const mark = "__h" // never the hex of a byte
	return whole[:maxTopicName-len(mark)-16] + mark + hex.EncodeToString(sum[:8])
}
