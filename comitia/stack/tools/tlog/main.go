// tlog-proofs checks proofs out of a transparency log with nothing but public libraries and the log's public key.
//
//	tlog-proofs VERIFIER_KEY entry PROOF ENTRY             a C2SP tlog-proof file, and the entry that it is of
//	tlog-proofs VERIFIER_KEY continues OLD NEW [HASH ...]  two C2SP checkpoints, and the proof between them in hex
//
// It prints what holds and ends with 0, or says what does not and ends with 1.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	said, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(said)
}

func run(arguments []string) (string, error) {
	if len(arguments) < 4 {
		return "", errors.New("usage: tlog-proofs VERIFIER_KEY entry PROOF ENTRY | continues OLD NEW [HASH ...]")
	}
	verifier, err := note.NewVerifier(arguments[0])
	if err != nil {
		return "", err
	}
	first, err := os.ReadFile(arguments[2])
	if err != nil {
		return "", err
	}
	second, err := os.ReadFile(arguments[3])
	if err != nil {
		return "", err
	}
	switch arguments[1] {
	case "entry":
		return entry(verifier, first, second)
	case "continues":
		return continues(verifier, first, second, arguments[4:])
	}
	return "", fmt.Errorf("%s: neither entry nor continues", arguments[1])
}

func entry(verifier note.Verifier, content, leaf []byte) (string, error) {
	claimed, signed, found := bytes.Cut(content, []byte("\n\n"))
	lines := strings.Split(string(claimed), "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return "", errors.New("not a tlog-proof")
	}
	index, err := strconv.ParseUint(strings.TrimPrefix(lines[1], "index "), 10, 63)
	if err != nil {
		return "", err
	}
	hashes, err := decoded(lines[2:], base64.StdEncoding.DecodeString)
	if err != nil {
		return "", err
	}
	head, err := checkpoint(verifier, signed)
	if err != nil {
		return "", err
	}
	hasher := rfc6962.DefaultHasher
	err = proof.VerifyInclusion(hasher, index, head.Size, hasher.HashLeaf(leaf), hashes, head.Hash)
	return fmt.Sprintf("entry %d of %d in %s", index, head.Size, head.Origin), err
}

func continues(verifier note.Verifier, oldNote, newNote []byte, lines []string) (string, error) {
	before, err := checkpoint(verifier, oldNote)
	if err != nil {
		return "", err
	}
	after, err := checkpoint(verifier, newNote)
	if err != nil {
		return "", err
	}
	hashes, err := decoded(lines, hex.DecodeString)
	if err != nil {
		return "", err
	}
	err = proof.VerifyConsistency(rfc6962.DefaultHasher, before.Size, after.Size, hashes, before.Hash, after.Hash)
	return fmt.Sprintf("%d of %s go on from %d", after.Size, after.Origin, before.Size), err
}

func checkpoint(verifier note.Verifier, signed []byte) (*log.Checkpoint, error) {
	head, _, _, err := log.ParseCheckpoint(signed, verifier.Name(), verifier)
	return head, err
}

func decoded(lines []string, decode func(string) ([]byte, error)) ([][]byte, error) {
	hashes := make([][]byte, 0, len(lines))
	for _, line := range lines {
		hash, err := decode(line)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}
