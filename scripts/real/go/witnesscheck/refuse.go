package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// offer is a request that no witness may cosign.
type offer struct {
	what       string
	old        int64
	proof      tlog.TreeProof
	checkpoint []byte
	status     int
	kind       string
	body       string
}

// askForRefusals has a log of 9 records cosigned, then offers forks, replays and forgeries; nothing may change by them.
func askForRefusals(given options) error {
	witness, err := newWitness(given)
	if err != nil {
		return err
	}
	tree, err := newLog(given.signer)
	if err != nil {
		return err
	}
	if err := tree.grow(9); err != nil {
		return err
	}
	cosigned, err := witness.cosign(tree, 0)
	if err != nil {
		return err
	}
	offers, err := makeOffers(tree)
	if err != nil {
		return err
	}
	for _, each := range offers {
		if err := witness.refuse(each); err != nil {
			return fmt.Errorf("%s: %w", each.what, err)
		}
		if err := witness.checkPublished(tree, cosigned); err != nil {
			return fmt.Errorf("after %s: %w", each.what, err)
		}
		fmt.Printf("refused with %d: %s\n", each.status, each.what)
	}
	return nil
}

func (w *witness) refuse(each offer) error {
	got, err := w.add(each.old, each.proof, each.checkpoint)
	if err != nil {
		return err
	}
	if got.status != each.status {
		return fmt.Errorf("answered %d: %q, expected %d", got.status, got.body, each.status)
	}
	if each.kind != "" && (got.kind != each.kind || string(got.body) != each.body) {
		return fmt.Errorf("answered %q (%s), expected %q (%s)", got.body, got.kind, each.body, each.kind)
	}
	if bytes.Contains(got.body, []byte("— ")) {
		return fmt.Errorf("a refusal has a signature line: %q", got.body)
	}
	return nil
}

// makeOffers builds them for a log whose 9 records are cosigned.
func makeOffers(tree *log) ([]offer, error) {
	fork := &log{signer: tree.signer, branch: " of another history"}
	honest := &log{signer: tree.signer, hashes: append(hashes(nil), tree.hashes...), size: tree.size}
	older := &log{signer: tree.signer}
	stranger, err := strangeLog("stranger.example/log")
	if err != nil {
		return nil, err
	}
	var offers []offer
	for _, made := range []struct {
		what   string
		log    *log
		size   int64
		old    int64
		status int
		spoil  func(*offer)
	}{
		{"the same size with another root", fork, 9, 9, http.StatusUnprocessableEntity, nil},
		{"a fork that grew", fork, 20, 9, http.StatusUnprocessableEntity, nil},
		{"growth without its proof", honest, 20, 9, http.StatusUnprocessableEntity, dropProof},
		{"growth with a hash of its proof changed", honest, 20, 9, http.StatusUnprocessableEntity, spoilProof},
		{"growth from a size that is not the newest", honest, 20, 4, http.StatusConflict, nil},
		{"a checkpoint from before", older, 4, 4, http.StatusConflict, nil},
		{"an old size beyond the checkpoint", older, 4, 9, http.StatusBadRequest, nil},
		{"a signature with a bit changed", honest, 20, 9, http.StatusForbidden, spoilSignature},
		{"a log that nobody configured", stranger, 20, 0, http.StatusNotFound, nil},
	} {
		each, err := makeOffer(made.log, made.size, made.old)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", made.what, err)
		}
		each.what, each.status = made.what, made.status
		if made.status == http.StatusConflict {
			each.kind, each.body = "text/x.tlog.size", "9\n"
		}
		if made.spoil != nil {
			made.spoil(&each)
		}
		offers = append(offers, each)
	}
	return offers, nil
}

func makeOffer(tree *log, size, old int64) (offer, error) {
	if err := tree.grow(size); err != nil {
		return offer{}, err
	}
	var proof tlog.TreeProof
	var err error
	if old <= size {
		proof, err = tree.prove(old)
	}
	if err != nil {
		return offer{}, err
	}
	checkpoint, err := tree.checkpoint()
	return offer{old: old, proof: proof, checkpoint: checkpoint}, err
}

func dropProof(each *offer) { each.proof = nil }

func spoilProof(each *offer) { each.proof[1][0] ^= 1 }

// spoilSignature changes a bit of the checkpoint's one signature.
func spoilSignature(each *offer) {
	body := each.checkpoint
	start := bytes.LastIndexByte(body[:len(body)-1], ' ') + 1
	signature, _ := base64.StdEncoding.DecodeString(string(body[start : len(body)-1]))
	signature[len(signature)-1] ^= 1
	each.checkpoint = fmt.Appendf(nil, "%s%s\n", body[:start], base64.StdEncoding.EncodeToString(signature))
}

func strangeLog(name string) (*log, error) {
	skey, _, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, err
	}
	return newLog(skey)
}
