# Which recordings each bundled instrument does not learn from, as options of ddsp prepare; why: models/RECIPES.md.
# --hold-out: what it is judged by instead. --leave-out: not used at all. Below them: whose timbre and room is played,
# as options of ddsp train.

INSTRUMENTS := flute violin cello clarinet oboe tenor_sax alto_sax trombone french_horn bassoon double_bass

# Whose recordings only the base has learned from so far.
BASE_ONLY := guitar

PREPARE_violin := --hold-out '*mov8*'

PREPARE_cello := --leave-out 'cello_E2_15_forte*' --leave-out 'cello_E2_15_piano*' \
                 --hold-out 'cello_C2_phrase_*_arco-detache*' --hold-out 'cello_E3_phrase_*' \
                 --hold-out 'cello_G3_phrase_*_arco-legato*' --hold-out 'cello_A4_phrase_*_arco-staccato*' \
                 --hold-out 'cello_G2_15_mezzo-piano*' --hold-out 'cello_Ds3_15_forte_*' \
                 --hold-out 'cello_As3_15_mezzo-piano*' --hold-out 'cello_Gs4_15_fortissimo*' \
                 --hold-out 'cello_C5_15_forte_*' --hold-out 'cello_F5_15_mezzo-piano*'

PREPARE_clarinet := --leave-out '*_very-long_piano_*' --hold-out 'clarinet_D3_phrase_*_nonlegato*' \
                    --hold-out 'clarinet_G3_phrase_*_staccato.*' --hold-out 'clarinet_E4_phrase_*_tongued-slur*' \
                    --hold-out 'clarinet_B4_phrase_forte*' --hold-out 'clarinet_F5_phrase_*_nonlegato*' \
                    --hold-out 'clarinet_B4_very-long_cresc*' --hold-out 'clarinet_F3_15_*' \
                    --hold-out 'clarinet_Cs4_15_*' --hold-out 'clarinet_A4_15_*' --hold-out 'clarinet_G5_15_*' \
                    --hold-out 'clarinet_C6_15_*'

PREPARE_oboe := --leave-out 'oboe_E6_15_mezzo-forte_*' --leave-out 'oboe_Cs5_15_*' \
                --leave-out 'oboe_D5_15_mezzo-forte_*' --hold-out 'oboe_B3_phrase_*_tenuto*' \
                --hold-out 'oboe_E4_phrase_*_tongued-slur*' --hold-out 'oboe_Cs5_phrase_*_nonlegato*' \
                --hold-out 'oboe_Fs5_phrase_*_staccato.*' --hold-out 'oboe_C4_15_piano_*' \
                --hold-out 'oboe_F4_15_fortissimo_*' --hold-out 'oboe_A4_15_mezzo-forte_*' \
                --hold-out 'oboe_E5_15_piano_*' --hold-out 'oboe_G5_15_forte_*' --hold-out 'oboe_B5_15_mezzo-forte_*' \
                --hold-out 'oboe_Ds6_15_piano_*' --hold-out 'oboe_Gs4_1_forte_major-trill*'

PREPARE_tenor_sax := --hold-out 'ten_p_03*' --hold-out 'ten_f_08*' --hold-out 'ten_p_13*' --hold-out 'ten_f_18*' \
                     --hold-out 'ten_p_23*' --hold-out 'ten_f_28*' --hold-out 'ten_p_31*'

PREPARE_alto_sax := --hold-out 'alt_p_03*' --hold-out 'alt_f_08*' --hold-out 'alt_p_13*' --hold-out 'alt_f_18*' \
                    --hold-out 'alt_p_23*' --hold-out 'alt_f_28*' --hold-out 'alt_p_31*'

PREPARE_trombone := --hold-out 'trombone_E2_phrase_*_nonlegato*' \
                    --hold-out 'trombone_F3_phrase_*_staccato*' --hold-out 'trombone_As3_phrase_*_legato*' \
                    --hold-out '102_97*' --hold-out '25_146*' --hold-out '76_220*' --hold-out '51_261*'

TRAIN_violin := --timbre bach-violin-dataset_john-garner

TRAIN_alto_sax := --timbre sfz_mtg-solosax
