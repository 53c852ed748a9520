#!/usr/bin/env bash
# Compares `adamix score` with official scores: 21 systems of the E2E challenge, one system on WebNLG 2017.
#
# official.sh ADAMIX DATA [--all]
#   ADAMIX  the program
#   DATA    directory with metrics/e2e, metrics/webnlg2017, metrics/meteor-1.5-data and nlg/e2e/official
#   --all   METEOR for all systems instead of three, and all sets of WebNLG instead of the unseen categories
#
# Official scores have four digits, so equal means: not farther away than 0.00005.
set -euo pipefail
adamix=$1 data=$2 all=${3:-}
metrics=$data/metrics
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

plain() { sed '1s/^\xef\xbb\xbf//' "$1" | tr -d '\r'; }

# E2E: references in blocks, one for each meaning representation; outputs one a line, quoted fields unquoted.
plain "$data/nlg/e2e/official/testset_w_refs.csv" | awk '
    NR > 1 && length($0) > 0 {
        line = substr($0, 2, length($0) - 2)
        cut = index(line, "\",\"")
        meaning = substr(line, 1, cut - 1)
        reference = substr(line, cut + 3)
        gsub(/""/, "\"", reference)
        if (NR > 2 && meaning != last) print ""
        print reference
        last = meaning
    }' > "$work/references"
for file in "$metrics"/e2e/systems/*.tsv; do
    plain "$file" | awk -F '\t' '
        NF == 2 && ++rows > 1 {
            text = $2
            if (text ~ /^".*"$/) { text = substr(text, 2, length(text) - 2); gsub(/""/, "\"", text) }
            print text
        }' > "$work/$(basename "$file" .tsv).txt"
done

with_meteor=("$work/chen.txt" "$work/forge1.txt" "$work/tgen.txt")
if [ "$all" = --all ]; then
    "$adamix" score "$work"/*.txt --ref "$work/references" --meteor-data "$metrics/meteor-1.5-data" --json > "$work/scores"
else
    "$adamix" score "$work"/*.txt --ref "$work/references" --json > "$work/scores"
    "$adamix" score "${with_meteor[@]}" --ref "$work/references" --meteor-data "$metrics/meteor-1.5-data" --json \
        >> "$work/scores"
fi

awk -F '\t' -v least=21 '
    function value(key,    text) {
        if (!match($0, "\"" key "\":[-+.0-9e]+")) return ""
        text = substr($0, RSTART, RLENGTH)
        sub(/.*:/, "", text)
        return text
    }
    function compare(name, key, column,    found, apart) {
        found = value(key)
        if (found == "") return
        if (!((name, who) in seen)) count[name]++
        seen[name, who] = 1
        apart = found - official[who, column]
        if (apart < 0) apart = -apart
        if (apart > worst[name]) worst[name] = apart
        if (apart > 0.0000501) { printf "%s of %s is %.5f, officially %s\n", name, who, found, official[who, column]; wrong = 1 }
    }
    FNR == NR { if (FNR == 1) split($0, title); else for (i = 3; i <= NF; i++) official[$1, title[i]] = $i; next }
    {
        who = $0
        sub(/.*"file":"[^"]*\//, "", who)
        sub(/\.txt".*/, "", who)
        if (!((who, "BLEU") in official)) { print "no official scores for " who; wrong = 1; next }
        compare("BLEU", "bleu", "BLEU")
        compare("NIST", "nist", "NIST")
        compare("METEOR (exact, stem, synonym; no paraphrase table)", "meteor_exact_stem_synonym", "METEOR_exact_stem_synonym")
        compare("ROUGE-L", "rouge_l", "ROUGE_L")
        compare("CIDEr", "cider", "CIDEr")
    }
    END {
        for (name in count) printf "E2E: %s of %d systems, largest difference from the official score %.6f\n", name, count[name], worst[name]
        if (count["BLEU"] < least || count["METEOR (exact, stem, synonym; no paraphrase table)"] < 3) { print "systems are missing"; wrong = 1 }
        exit wrong
    }' "$metrics/e2e/scores.tsv" "$work/scores" | sort

# WebNLG: three reference files, empty lines where there are fewer references. The raw outputs get the same scores.
sets=(new-cat)
if [ "$all" = --all ]; then sets=(all-cat old-cat new-cat); fi
for set in "${sets[@]}"; do
    web=$metrics/webnlg2017
    output=("$web/output/bart_$set.txt")
    if [ "$set" = all-cat ]; then output=("$web/output/bart-large_webnlg-all.raw.txt" --prepare); fi
    reference=$web/references/gold-$set-reference
    "$adamix" score "${output[@]}" --ref "${reference}0.lex" --ref "${reference}1.lex" --ref "${reference}2.lex" \
        --json > "$work/web"
    awk -F '\t' -v set="$set" '
        FNR == NR { if ($1 == set) { official[$3] = $4; detail[$3] = $5 } next }
        {
            for (i = split("bleu ter ter_edits", keys, " "); i > 0; i--) {
                match($0, "\"" keys[i] "\":[.0-9e-]+")
                text = substr($0, RSTART, RLENGTH)
                sub(/.*:/, "", text)
                found[keys[i]] = text
            }
            edits = detail["TER"] + 0
            printf "WebNLG %s: BLEU %.2f (officially %s), TER %.6f (officially %.6f), %d edits (officially %d)\n", set, 100 * found["bleu"], official["BLEU"], found["ter"], official["TER"], found["ter_edits"], edits
            apart = 100 * found["bleu"] - official["BLEU"]
            far = found["ter"] - official["TER"]
            exit !(apart * apart < 0.005001 ^ 2 && far * far < 1e-20 && found["ter_edits"] == edits)
        }' "$web/scores.tsv" "$work/web"
done
