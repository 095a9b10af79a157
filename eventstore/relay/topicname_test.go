package relay_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rollforward/rollforward/eventstore/relay"
)

func TestATopicsNameIsReadable(t *testing.T) {
	for _, c := range [][2]string{
		{relay.TopicName("change.raised"), "change_raised"},
		{relay.TopicName("change.stage-decided"), "change_stage-decided"},
		{relay.TopicName("change.raised_late"), "change_raised__5flate"},
		{relay.TopicName("a..b"), "a___2eb"},
		{relay.TopicName("log", "change.raised"), "log.change_raised"},
		{relay.TopicName("ä"), "__c3__a4"},
		{relay.TopicName(strings.Repeat("a", 45)), strings.Repeat("a", 45)},
		{relay.TopicName(strings.Repeat("a", 46)), strings.Repeat("a", 26) + "__h" + "6643110c5628fff5"},
	} {
		require.Equal(t, c[1], c[0])
	}
}

// nameOf reads a topic's name that was not cut.
func nameOf(topic string) (name string) {
	hex := regexp.MustCompile(`^__([0-9a-f]{2})`)
	for topic != "" {
		if found := hex.FindStringSubmatch(topic); found != nil {
			b, _ := strconv.ParseUint(found[1], 16, 8)
			name, topic = name+string([]byte{byte(b)}), topic[4:]
			continue
		}
		name, topic = name+strings.ReplaceAll(topic[:1], "_", "."), topic[1:]
	}
	return name
}

func TestOtherNamesHaveOtherTopicsThatFitEverywhere(t *testing.T) {
	fits := regexp.MustCompile(`^[A-Za-z0-9_-]{1,45}$`)
	letters := rapid.SampledFrom([]rune("ab.._-52eEh é$*> \x00"))
	seen := map[string]string{}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringOfN(letters, 1, 60, -1).Draw(t, "name")
		topic := relay.TopicName(name)
		require.Regexp(t, fits, topic)
		if !strings.Contains(topic, "__h") {
			require.Equal(t, name, nameOf(topic))
		}
		if other, found := seen[topic]; found {
			require.Equal(t, other, name)
		}
		seen[topic] = name
	})
}
