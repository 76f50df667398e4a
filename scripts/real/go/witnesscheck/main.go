// Witnesscheck asks a witness to cosign a log, and judges what it answers; it also judges logs that are not its own.
//
// Nothing in it is mirrorwitness's own: trees, proofs and notes are those of golang.org/x/mod, signatures those of Go's
// standard library. `make test-real` builds it (scripts/real/install-witness) and runs it against our witness.
//
//	witnesscheck key NAME                                       print a new log key: the private half, then the vkey
//	witnesscheck ask -url URL -signer SKEY -cosigner VKEY SIZE… grow a log to each size and have it cosigned
//	witnesscheck refuse -url URL -signer SKEY -cosigner VKEY    offer what no witness may cosign
//	witnesscheck verify -log VKEY -cosigner VKEY FILE           check a checkpoint that was published; prints its text
//	witnesscheck sumdb -signer SKEY -records N [-origin NAME]   serve a checksum database on a free loopback port
//	witnesscheck readlog -url URL -log VKEY -cosigner VKEY… -records N
//	                                                            check a tiled log: its checkpoint, N records, N trees
//
// It ends with status 1, and says why, as soon as something is not as it must be.
package main

import (
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// options are the flags of all commands.
type options struct {
	url       string
	signer    string
	log       string
	cosigners stringList
	records   int64
	origin    string
	arguments []string
}

// stringList is a flag that may be given several times.
type stringList []string

func (l *stringList) String() string { return strings.Join(*l, " ") }

func (l *stringList) Set(value string) error {
	*l = append(*l, value)
	return nil
}

var commands = map[string]func(options) error{
	"key":     printKey,
	"ask":     askForSizes,
	"refuse":  askForRefusals,
	"verify":  verifyFile,
	"sumdb":   serveSumdb,
	"readlog": readLog,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: witnesscheck key|ask|refuse|verify|sumdb|readlog [flags] [arguments]")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](parseOptions(os.Args[1], os.Args[2:])); err != nil {
		fmt.Fprintf(os.Stderr, "witnesscheck %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func parseOptions(command string, arguments []string) options {
	var given options
	flags := flag.NewFlagSet(command, flag.ExitOnError)
	flags.StringVar(&given.url, "url", "", "the witness's submission prefix, which is its monitoring prefix too; or the log's")
	flags.StringVar(&given.signer, "signer", "", "the log's private key")
	flags.StringVar(&given.log, "log", "", "the log's verifier key")
	flags.Var(&given.cosigners, "cosigner", "a verifier key of the witness; repeatable")
	flags.Int64Var(&given.records, "records", 1, "how many records the database begins with, or are checked")
	flags.StringVar(&given.origin, "origin", "", "the database's origin; without one, that of Go's own")
	flags.Parse(arguments)
	given.arguments = flags.Args()
	return given
}

func printKey(given options) error {
	if len(given.arguments) != 1 {
		return fmt.Errorf("give one name")
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, given.arguments[0])
	if err != nil {
		return err
	}
	fmt.Printf("%s\n%s\n", skey, vkey)
	return nil
}

// askForSizes grows a log to each size in turn; the same size again asks for a newer cosignature.
func askForSizes(given options) error {
	witness, err := newWitness(given)
	if err != nil {
		return err
	}
	tree, err := newLog(given.signer)
	if err != nil {
		return err
	}
	for _, argument := range given.arguments {
		size, err := strconv.ParseInt(argument, 10, 64)
		if err != nil {
			return err
		}
		old := tree.size
		if err := tree.grow(size); err != nil {
			return err
		}
		checkpoint, err := witness.cosign(tree, old)
		if err != nil {
			return fmt.Errorf("from size %d to %d: %w", old, size, err)
		}
		if err := witness.checkPublished(tree, checkpoint); err != nil {
			return fmt.Errorf("published at size %d: %w", size, err)
		}
		fmt.Printf("size %d: cosigned by %d keys and published\n", size, len(witness.cosigners))
	}
	return nil
}

// verifyFile checks a checkpoint: signed by the log, and by every cosigner.
func verifyFile(given options) error {
	if len(given.arguments) != 1 {
		return fmt.Errorf("give one file")
	}
	body, err := os.ReadFile(given.arguments[0])
	if err != nil {
		return err
	}
	cosigners, err := newCosigners(given.cosigners)
	if err != nil {
		return err
	}
	log, err := note.NewVerifier(given.log)
	if err != nil {
		return fmt.Errorf("the log's key: %w", err)
	}
	text, err := openCosigned(body, log, cosigners)
	if err != nil {
		return err
	}
	fmt.Print(text)
	return nil
}
