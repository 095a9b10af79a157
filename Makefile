# The two commands are `make test` and `go run ./examples/quickstart`.

SHELL       := /bin/bash
.SHELLFLAGS := -o pipefail -c

GO          ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
SHOWN       := FullSize|OnPostgreSQL|OneDatabase|ProcessesThat|TheHarness|ThePowerHarness
FUZZTIME    ?= 10s
# What takes longest begins first, so that nothing is left to one processor at the end.
LONGEST     := ./eventstore/postgres ./eventstore/sqlite ./eventstore/relay ./change ./release

.PHONY: test tools lint bench benchmarks fuzz matrix

# All tests under the race detector, then those of full size without it: the
# detector makes single-threaded work ten times slower and finds nothing there.
# The race detector needs a C compiler; the history view is tried in the shell;
# power cuts and failing disks are made from what strace sees and does.
# PostgreSQL is tested on a server that the tests start, or on the one that
# ROLLFORWARD_TEST_POSTGRES names.
# What the second run needs is compiled beside the first, where that leaves time.
test: tools
	nice -n 19 $(GO) test -vet=off -run '^$$' ./... >/dev/null & \
	$(GO) test -race -vet=off -p 3 -count=1 -json $(LONGEST) ./... | $(GO) run ./internal/tally -show '$(SHOWN)'; status=$$?; wait; exit $$status
	$(GO) test -vet=off -count=1 -run FullSize -json $(LONGEST) ./... | $(GO) run ./internal/tally -show '$(SHOWN)'

# What the tests need is installed, or named.
tools:
	@.ci/need gcc=gcc /usr/include/stdlib.h=libc6-dev sqlite3=sqlite3 strace=strace \
		$(if $(ROLLFORWARD_TEST_POSTGRES),,'initdb|/usr/lib/postgresql/*/bin/initdb=postgresql')

# S1016 would have a command converted to its event: they are alike by chance,
# and an event must not change because a command does.
lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) -checks inherit,-S1016 ./...

# What the stores reach of the limits of their engines: ratios, each to raw loops
# measured in turn with it. BENCH=-full is for the sizes that are promised for,
# BENCH=-json for machines, BENCH='-run append' for some of it.
bench:
	$(GO) run ./internal/bench $(BENCH)

# All others.
benchmarks:
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Every fuzz target for FUZZTIME each.
fuzz:
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
			echo "$$p $$f"; \
			$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5s $$p || exit 1; \
		done; \
	done

# Which clause of the store contract catches which planted fault.
matrix:
	$(GO) test -count=1 -v -run TestEveryMutantIsCaughtAtFullSize ./eventstore/storetest
