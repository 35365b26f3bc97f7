# What people call; each target is a script of its own in scripts/.
#
# Variables: ARGS (passed on), PORT and VAR and DATABASE_URL (make run), CARGO_TARGET_DIR.

.DEFAULT_GOAL := help
.PHONY: help run test test-full check bench gen clean-var

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

run: ## start a market on this machine, lend its RAM and rent some of it (ARGS=--once PORT=8080 DATABASE_URL=…)
	@scripts/run.sh $(ARGS)

test: ## everything, real Docker and PostgreSQL included; large counts reduced
	@scripts/test.sh $(ARGS)

test-full: ## the same with the full counts
	@TEST_FULL=1 scripts/test.sh $(ARGS)

check: ## format, lints, docs, licences and bans, house rules, scripts, systemd units
	@scripts/check.sh

bench: ## start-up, agent overhead and ways into rentals against docker run, prometheus-node-exporter and an sshd
	@scripts/bench.sh $(ARGS)

gen: ## rewrite the files that are generated from the code
	@scripts/gen.sh

clean-var: ## delete the data of make run (./var)
	@scripts/run.sh --clean
