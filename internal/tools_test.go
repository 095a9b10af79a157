package internal_test
import (
 _ "github.com/stretchr/testify/require"; _ "pgregory.net/rapid"; _ "go.uber.org/goleak"; _ "github.com/rogpeppe/go-internal/txtar"; _ "zombiezen.com/go/sqlite/sqlitex"
)
