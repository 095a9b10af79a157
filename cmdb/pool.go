package cmdb

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// minUp says how many members of a pool must be up.
type minUp struct {
	number  int
	percent bool
}

// parseMinUp reads a count "2" or a percentage "50%".
func parseMinUp(text string) (minUp, error) {
	digits, percent := strings.CutSuffix(text, "%")
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || percent && n > 100 {
		return minUp{}, errors.New(`what must be up is a count such as "2" or a percentage from "0%" to "100%"`)
	}
	return minUp{int(n), percent}, nil
}

func (m minUp) String() string {
	if m.percent {
		return fmt.Sprintf("%d%%", m.number)
	}
	return strconv.Itoa(m.number)
}

// threshold returns how many of the members may fail: the pool is reached by
// impact when more do. A percentage of members that is no whole number is
// rounded up, so that a pool of three of which half must be up needs two. That
// is the same as to compare with the exact fraction, since failures are whole.
func (m minUp) threshold(members int) int {
	up := m.number
	if m.percent {
		up = (members*m.number + 99) / 100
	}
	return max(0, members-up)
}
